"""Plants a bug in a copy of the sources, builds what it changes, and runs the tests of one layer over it."""

import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import tensometer
from planted import Bug

ROOT = Path(__file__).resolve().parent.parent.parent
BUILD = ROOT / "build" / "core"


@dataclass(frozen=True)
class Layer:
    """A C++ program of tests, which `make cuda-test` builds, and what it runs under; or a file for pytest."""

    tests: str
    under: tuple[str, ...] = ()


# Sanitizers lay out more memory than conftest.py allows.
UNLIMITED = ("prlimit", "--data=unlimited:")
# setarch: as in the Makefile.
PYTHON = "test_cuda_monitor.py"
LAYERS = {
    "A plain": Layer("cuda_tests"),
    "A ASan+UBSan": Layer("asan/cuda_tests", UNLIMITED),
    "A TSan": Layer("tsan/cuda_tests", (*UNLIMITED, "env", "TSAN_OPTIONS=halt_on_error=1", "setarch", "-R")),
    "B": Layer("test_ptx.py"),
    "B histogram": Layer("test_ptx_histogram.py"),
    "C": Layer("launcher_tests", ("env", f"TENSOMETER_LIBCUDA={BUILD / 'libcuda.so.1'}")),
    "C Python": Layer(PYTHON),
}
# pytest over the copy of the package, whose core is the one that is installed: without what finds that by itself.
BOOT = """
import sys
sys.meta_path = [finder for finder in sys.meta_path if "_editable_" not in type(finder).__module__]
sys.path.insert(0, "python")
import pytest, tensometer
assert "python/tensometer" in tensometer.__file__ and not tensometer.__file__.startswith({root!r}), tensometer.__file__
sys.exit(pytest.main(sys.argv[1:]))
"""


@dataclass(frozen=True)
class Outcome:
    """How the tests of a layer ended, and what they said."""

    passed: bool
    text: str


def run(command: list[str] | str, folder: Path) -> Outcome:
    done = subprocess.run(
        command,
        cwd=folder,
        shell=isinstance(command, str),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    return Outcome(done.returncode == 0, done.stdout)


def built(command: list[str] | str, folder: Path) -> str:
    outcome = run(command, folder)
    assert outcome.passed, f"{command}\n{outcome.text}"
    return outcome.text


def copy_sources(to: Path, bug: Bug | None) -> None:
    """What there is to build and to run, the bug in it."""
    for name in ("csrc", "python", "tests"):
        shutil.copytree(ROOT / name, to / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", to)
    core = Path(tensometer._core.__file__)
    (to / "python" / "tensometer" / core.name).symlink_to(core)
    (to / "build").mkdir()
    (to / "build" / "core").symlink_to(BUILD)
    if bug is not None:
        source = to / bug.file
        text = source.read_text(encoding="utf-8")
        assert text.count(bug.old) == 1, f"{bug.file} has this {text.count(bug.old)} times, not once:\n{bug.old}"
        source.write_text(text.replace(bug.old, bug.new), encoding="utf-8")


@cache
def commands(program: str) -> tuple[str, ...]:
    """What makes it, the last one linking."""
    assert (BUILD / program).exists(), f"there is no {BUILD / program}: make cuda-test builds it"
    return tuple(built(["ninja", "-t", "commands", program], BUILD).splitlines())


@cache
def sources() -> dict[str, set[str]]:
    """The files that each object was made of."""
    blocks = built(["ninja", "-t", "deps"], BUILD).split("\n\n")
    rows = [block.split("\n") for block in blocks if block.strip()]
    return {row[0].partition(":")[0]: {line.strip() for line in row[1:]} for row in rows}


def build(program: str, files: set[str], tree: Path) -> Path:
    """A program, all that depends on these files made anew of the tree; little optimised, to be quick."""
    changed = {str(ROOT / file) for file in files}
    *compiling, linking = commands(program)
    found = [(match, text) for text in compiling if (match := re.search(r" -o (\S+\.o) -c (\S+)", text))]
    # What it has itself of a source it does not take from the core, and of the core only what changes.
    own = {match[2] for match, _ in found if match[1] in linking}
    again = [
        (match[1], text)
        for match, text in found
        if sources()[match[1]] & changed and (match[1] in linking or match[2] not in own)
    ]
    assert again, f"{program} is not made of {files}"
    added = ""
    for name, text in again:
        target = str(tree / name)
        Path(target).parent.mkdir(parents=True, exist_ok=True)
        command = text.replace(name, target)
        for folder in ("csrc", "tests"):
            command = command.replace(f"{ROOT / folder}", f"{tree / folder}")
        built(re.sub(r" -O[23]\b", " -O1", command) + " -w", BUILD)
        if name in linking:
            linking = linking.replace(name, target)
        else:
            added += f" {target}"
    built(linking.replace(f" -o {program} ", f"{added} -o {tree / 'program'} "), BUILD)
    return tree / "program"


def try_layer(name: str, bugs: list[Bug], tree: Path, planted: bool) -> Outcome:
    """Runs what the bugs name of a layer's tests: with the one bug, or without any."""
    layer = LAYERS[name]
    copy_sources(tree, bugs[0] if planted else None)
    if not layer.tests.endswith(".py"):
        program = build(layer.tests, {bugs[0].file}, tree)  # without a bug all objects would be as they are
        words = sorted({word for bug in bugs for word in bug.tests.split()})
        return run([*layer.under, str(program), "--quick", *words], tree)
    chosen = " or ".join(sorted({f"({bug.tests})" for bug in bugs}))
    start = ["-c", BOOT.format(root=str(ROOT))] if layer.tests == PYTHON else ["-m", "pytest"]
    pytest = [sys.executable, *start, "-q", "-p", "no:cacheprovider", "-k", chosen]
    return run([*pytest, str(tree / "tests" / "cuda" / layer.tests)], tree)
