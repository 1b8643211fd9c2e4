"""The rules of the house (ARCHITECTURE.md), wherever a program can see them."""

import ast
import dataclasses
import graphlib
import inspect
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import cpp_source
import pytest
import tensometer
from tensometer import _core

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "python" / "tensometer"

# From the bottom up. A module imports from its own row, without cycles, and from rows below it.
LAYERS = (
    {"_core"},
    {"tensors", "summary", "extras", "names", "notices", "cuda"},
    {"checkpoint", "store", "rules"},
    {"actions", "capture", "flags", "scan_report"},
    {"judge", "reference", "replay", "scanner", "report"},
    {"responder"},
    {"monitor", "watch", "cuda"},
    {f"capture.{name}" for name in ("callbacks", "lightning", "transformers", "xgboost")},
    {"cuda.bench_training", "cuda.bench", "cuda.__main__"},
    {"cli_output"},
    {"cli_runs", "cli_watch"},
    {"cli", "__main__"},
)
# What a kernel may know: its block, its types, its vectors. Not who calls it, nor how blocks are merged.
KERNEL_INCLUDES = {"block.hpp", "dtype.hpp", "pattern.hpp", "simd.hpp", "summary.hpp", "kernels/kernels.hpp"}
INSTRUCTION_SET = re.compile(
    r"_mm\d*_\w+|\b__m\d+\w*|\bu?(?:int|float|bfloat)\d+x\d+_t|__builtin_ia32|\b\w*intrin\.h|\barm_neon\.h"
    r"|\b__(?:AVX|SSE|F16C|FMA|BMI|ARM_NEON|ARM_FEATURE|x86_64|aarch64)\w*"
)
# terminate() is absent: the destructor of std::thread names it. Writing into memory (snprintf) is no printing.
PRINTS_OR_ENDS = re.compile(
    r"(?:__)?v?f?w?printf(?:_chk)?|f?puts|f?putc|putchar|perror|f?write|syslog|abort|_?_?[Ee]xit|quick_exit|raise|kill"
    r"|__assert_fail|_ZSt\d__glibcxx_assert_fail.*|_ZSt4(?:cout|cerr|clog)"
)
REDUCTIONS = {
    *("sum", "mean", "var", "std", "min", "max", "amin", "amax", "median", "percentile", "quantile"),
    *("histogram", "norm", "nansum", "nanmean", "nanvar", "nanstd", "nanmin", "nanmax", "dot", "vdot"),
    *("inner", "count_nonzero", "average"),
}


def repository_files() -> list[Path]:
    """Every file that is tracked or could be; without git (a source archive), every file outside what tools leave."""
    if (ROOT / ".git").exists():
        command = ["git", "-C", str(ROOT), "ls-files", "-co", "--exclude-standard", "-z"]
        names = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split("\0")
        return sorted(ROOT / name for name in names if name and (ROOT / name).is_file())
    ours = [ROOT / name for name in ("python", "csrc", "tests", "benchmarks", "demo")]
    return sorted(path for top in ours for path in top.rglob("*") if path.is_file() and "__pycache__" not in path.parts)


FILES = repository_files()
PYTHON_FILES = [path for path in FILES if path.suffix == ".py"]
CXX_FILES = [path for path in FILES if path.suffix in {".hpp", ".cpp", ".cu", ".cuh"}]
MODULES = [path for path in PYTHON_FILES if path.is_relative_to(PACKAGE)]


def place(path: Path, line: int | None = None) -> str:
    """How a finding names its place."""
    name = path.relative_to(ROOT).as_posix()
    return name if line is None else f"{name}:{line}"


def matches(pattern: re.Pattern[str], text: str) -> Iterator[tuple[int, str]]:
    """Line number and text of every match."""
    return ((text.count("\n", 0, match.start()) + 1, match[0]) for match in pattern.finditer(text))


def parsed(path: Path) -> ast.Module:
    """The file's syntax tree."""
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def module_name(path: Path) -> str:
    """The dotted name of a module of the package."""
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Line and dotted name of every absolute import, wherever it stands; `from a import b` counts as a.b."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: a relative import; write the full name"
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


def top_level(tree: ast.Module) -> ast.Module:
    """The statements that run when the module is imported, functions and `if TYPE_CHECKING:` left out."""
    lazy = (ast.FunctionDef, ast.AsyncFunctionDef)

    def kept(nodes: list[ast.stmt]) -> Iterator[ast.stmt]:
        for node in nodes:
            if isinstance(node, ast.ClassDef):
                yield from kept(node.body)
            elif not isinstance(node, lazy) and not checking(node):
                yield node

    def checking(node: ast.stmt) -> bool:
        return isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")

    return ast.Module(list(kept(tree.body)), [])


# Rule 1: imports point down.


def own_imports(path: Path) -> Iterator[tuple[int, str]]:
    """Imports of the package's own modules, as the dotted name of the module."""
    known = {module_name(module) for module in MODULES} | {"tensometer._core"}
    for line, name in imported(parsed(path)):
        if name.partition(".")[0] == "tensometer":
            yield line, name if name in known else name.rpartition(".")[0]


def layer(module: str) -> int:
    """The row of LAYERS that a module stands in."""
    parts = module.split(".")
    # Callbacks stand above the monitor, the rest of their package below it: the longer name counts.
    names = (".".join(parts[1:3]), parts[1])
    rows = [row for name in names for row, concepts in enumerate(LAYERS) if name in concepts]
    assert rows, f"give {module} a row in LAYERS"
    return rows[0]


def test_python_imports_point_down() -> None:
    upward = []
    for path in MODULES:
        if (own := module_name(path)) == "tensometer":
            continue
        for line, name in own_imports(path):
            if name == "tensometer" or layer(name) > layer(own):
                upward.append(f"{place(path, line)}: {own} imports {name}")
    assert not upward, "\n".join(upward)


def test_python_imports_have_no_cycles() -> None:
    # A package's __init__ names its own modules; they may name each other, not it.
    graph = {module_name(path): {name for _, name in own_imports(path)} for path in MODULES}
    graphlib.TopologicalSorter(graph).prepare()


def test_modules_import_only_the_runtime_needs() -> None:
    allowed = sys.stdlib_module_names | {"numpy", "zstandard", "tensometer"}
    # capture/torch_*.py are imported where they are needed, and may import torch.
    own = {path: path.stem.partition("_")[0] for path in MODULES if path.parent.name == "capture"}
    eager = [
        f"{place(path, line)}: {name}"
        for path in MODULES
        for line, name in imported(top_level(parsed(path)))
        if name.partition(".")[0] not in allowed and name.partition(".")[0] != own.get(path)
    ]
    assert not eager, "import these inside the function that needs them:\n" + "\n".join(eager)


def test_cpp_includes_point_down() -> None:
    graph: dict[str, set[str]] = {}
    wrong = []
    csrc = ROOT / "csrc"
    for path in (path for path in CXX_FILES if path.is_relative_to(csrc)):
        own = path.relative_to(csrc).as_posix()
        folder = own.partition("/")[0]
        names = cpp_source.includes(path.read_text(encoding="utf-8"))
        ours = {name for name in names if (csrc / name).exists()}
        graph[own] = ours
        if folder != "bindings":
            wrong += [f"{own} includes {name}" for name in names if re.match(r"pybind11/|Python\.h|bindings/", name)]
        if folder == "kernels":
            wrong += [f"{own} includes {name}" for name in ours - KERNEL_INCLUDES]
    assert not wrong, "\n".join(wrong)
    graphlib.TopologicalSorter(graph).prepare()


def run_python(code: str) -> str:
    """What a fresh interpreter prints."""
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout


def test_import_loads_no_optional_dependency() -> None:
    # What the environment itself loads at start-up is not ours.
    code = "import sys, numpy, zstandard; a = set(sys.modules); import tensometer; print(*(set(sys.modules) - a))"
    loaded = {name.partition(".")[0] for name in run_python(code).split()}
    assert loaded - sys.stdlib_module_names - {"numpy", "zstandard"} == {"tensometer"}


def test_import_takes_under_150_ms() -> None:
    # NumPy included. CPU time of one thread, best of five: other work on the machine does not count.
    code = "import time; start = time.thread_time(); import tensometer; print(time.thread_time() - start)"
    assert min(float(run_python(code)) for _ in range(5)) < 0.150


# Rule 2: instruction sets.


def test_only_simd_and_dispatch_know_an_instruction_set() -> None:
    # fiber.cpp saves registers, in tests alone.
    allowed = {"csrc/simd.hpp", "csrc/dispatch.cpp", "csrc/cuda/emulation/fiber.cpp"}
    found = [
        f"{place(path, line)}: {text}"
        for path in CXX_FILES
        if place(path) not in allowed
        for line, text in matches(INSTRUCTION_SET, cpp_source.code_of(path.read_text(encoding="utf-8")))
    ]
    assert not found, "\n".join(found)


def symbols(path: Path, *options: str) -> list[tuple[str, str]]:
    """Name and kind of the symbols that nm lists."""
    output = subprocess.run(["nm", "-P", *options, str(path)], check=True, capture_output=True, text=True).stdout
    return [(fields[0].partition("@")[0], fields[1]) for line in output.splitlines() if len(fields := line.split()) > 1]


def test_kernel_objects_export_one_symbol_and_no_weak_ones() -> None:
    objects = sorted((ROOT / "build" / "python" / "CMakeFiles").glob("kernels_*.dir/**/*.o"))
    assert objects, "no objects of the kernels under build/python: make test builds them"
    exported = {place(path): symbols(path, "--defined-only", "--extern-only") for path in objects}
    wrong = {name: found for name, found in exported.items() if len(found) != 1 or found[0][1] not in "BDRT"}
    assert not wrong


# Rule 3: no statistics arithmetic in Python.


def test_python_reduces_no_tensors() -> None:
    found = []
    # Rules look at short windows of statistics, not at tensors.
    for path in (module for module in MODULES if not module.is_relative_to(PACKAGE / "rules")):
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.Attribute) and node.attr in REDUCTIONS:
                owner = ast.unparse(node.value).partition(".")[0]
                if owner in {"np", "numpy", "torch"}:
                    found.append(f"{place(path, node.lineno)}: {ast.unparse(node)}")
    assert not found, "\n".join(found)


# Rule 4: lengths.


def test_files_are_under_400_lines() -> None:
    sources = [path for path in FILES if path in CXX_FILES or path.suffix in {".py", ".pyi"}]
    long = {place(path): lines for path in sources if (lines := len(path.read_text("utf-8").splitlines())) >= 400}
    assert not long


def test_python_functions_are_under_60_lines() -> None:
    long = []
    for path in PYTHON_FILES:
        for node in ast.walk(parsed(path)):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                length = (node.end_lineno or node.lineno) - node.lineno + 1
                if length >= 60:
                    long.append(f"{place(path, node.lineno)}: {node.name} has {length} lines")
    assert not long, "\n".join(long)


def test_cpp_functions_are_under_60_lines() -> None:
    long = [
        f"{place(path, function.line)}: {function.name} has {function.length} lines"
        for path in CXX_FILES
        for function in cpp_source.functions(path.read_text(encoding="utf-8"))
        if function.length >= 60
    ]
    assert not long, "\n".join(long)


def test_the_function_counter_reads_cpp() -> None:
    source = """
    namespace a { namespace {
    struct X final : Y<int> {
      X(int a) : a_{a}, v_{std::vector<int>{1}} {
        auto twice = [](int y) { return "}" + 2 * y; };
      }
      bool operator()(int x) const { return x == '{'; }  // }
      std::array<int, 2> t{1,
                           2};
    };
    template <class T, class U = std::vector<T>>
    auto f(T x)
        -> int {
      return 1'000;
    }
    using Lane = decltype(widen(X{}));
    ROWS(X)
    }}
    """
    found = [(function.name, function.line, function.length) for function in cpp_source.functions(source)]
    assert found == [("X", 4, 3), ("operator()", 7, 1), ("f", 11, 5)]


# Rule 5: what a call returns for an empty tensor and what it does with NaN; every public thing explained.


@pytest.mark.parametrize(
    "name", ["summarize", "summarize_many", "summarize_units", "compare", "histogram", "Accumulator"]
)
def test_docstrings_speak_of_empty_tensors_and_nan(name: str) -> None:
    text = inspect.getdoc(getattr(tensometer, name)) or ""
    assert "empty" in text.lower()
    assert "NaN" in text


def documented(thing: object) -> bool:
    """Whether there is more to its docstring than the signature that pybind11 writes by itself."""
    lines = [line for line in (inspect.getdoc(thing) or "").splitlines() if line.strip()]
    return any("->" not in line and not line.startswith(("Overloaded function", "Members:")) for line in lines)


def test_every_public_name_is_documented() -> None:
    bare = []
    for name in tensometer.__all__:
        thing = getattr(tensometer, name)
        if isinstance(thing, str):
            continue
        members = dict(vars(thing)) if inspect.isclass(thing) else {}
        # The docstring of a dataclass explains its fields, whose defaults are among its members.
        for field in dataclasses.fields(thing) if dataclasses.is_dataclass(thing) else ():
            members.pop(field.name, None)
        bare += [name] if not documented(thing) else []
        bare += [f"{name}.{key}" for key, value in members.items() if key[0] != "_" and not documented(value)]
    assert not bare


def test_every_python_definition_is_documented() -> None:
    definitions = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    bare = []
    for path in MODULES:
        tree = parsed(path)
        nodes = [
            node
            for parent in ast.walk(tree)
            for node in ast.iter_child_nodes(parent)
            if isinstance(parent, (ast.Module, ast.ClassDef))
        ]
        public = [node for node in nodes if isinstance(node, definitions) and not node.name.startswith("_")]
        bare += [place(path)] if ast.get_docstring(tree) is None else []
        bare += [f"{place(path, node.lineno)}: {node.name}" for node in public if ast.get_docstring(node) is None]
    assert not bare, "\n".join(bare)


def test_public_names_are_at_most_30() -> None:
    assert len(tensometer.__all__) <= 30
    assert len(set(tensometer.__all__)) == len(tensometer.__all__)
    assert all(hasattr(tensometer, name) for name in tensometer.__all__)


# Rule 6: the library never prints, aborts or exits.


def test_library_neither_prints_nor_ends_the_process() -> None:
    library = Path(inspect.getfile(_core))
    called = {name for name, _ in symbols(library, "--dynamic", "--undefined-only")}
    assert called, f"nm finds no calls in {library}"
    assert not {name for name in called if PRINTS_OR_ENDS.fullmatch(name)}


# Rule 10, and what every repository keeps out.


def test_warnings_are_errors() -> None:
    options = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]
    assert options["pytest"]["ini_options"]["filterwarnings"] == ["error"]
    assert "--strict-markers" in options["pytest"]["ini_options"]["addopts"]
    assert options["mypy"]["strict"] is True


def test_nothing_is_left_to_do_and_no_machine_is_named() -> None:
    # Written in pieces, so that this file does not find itself.
    unwanted = re.compile(
        "TO" r"DO|FIX" r"ME|XX" r"X\b|(?<![\w.~])/(?:ho" r"me|ro" r"ot|wo" r"rk|Us" r"ers|op" r"t)/\w+"
    )
    found = []
    for path in FILES:
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue  # data, not text
        found += [f"{place(path, line)}: {match}" for line, match in matches(unwanted, text)]
    assert not found, "\n".join(found)
