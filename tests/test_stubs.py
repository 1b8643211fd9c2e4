"""_core.pyi says what the compiled module has, and nothing else."""

import ast
import inspect
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import tensometer._core as core

PACKAGE = Path(__file__).resolve().parent.parent / "python" / "tensometer"
STUB = ast.parse((PACKAGE / "_core.pyi").read_text(encoding="utf-8"))
CLASSES = {node.name: node for node in STUB.body if isinstance(node, ast.ClassDef)}
FUNCTIONS = {node.name: node for node in STUB.body if isinstance(node, ast.FunctionDef)}
# Written by Python or pybind11 for every class or module, or (pickling, equality) implied by another in the stub.
IMPLIED = {"__doc__", "__module__", "__hash__", "__reduce__", "__reduce_ex__", "__dict__", "__weakref__", "__new__"}

# What stubtest says of every pybind11 class, and of an alias that only type checkers need.
PYBIND11 = re.compile(
    r"is inconsistent, metaclass differs$"
    r'|__init__ is inconsistent, stub does not have \*args parameter "args"$'
    r"|(HistogramOption|DTypeLike) is not present at runtime$"
)


def members(node: ast.ClassDef) -> dict[str, ast.FunctionDef]:
    """The methods and properties that the stub gives a class."""
    return {child.name: child for child in node.body if isinstance(child, ast.FunctionDef)}


def is_property(node: ast.FunctionDef) -> bool:
    """Whether the stub marks it so."""
    return any(isinstance(mark, ast.Name) and mark.id == "property" for mark in node.decorator_list)


def written_signature(function: object, name: str) -> ast.arguments:
    """The signature on the first line of a docstring, where pybind11 writes it."""
    first = (inspect.getdoc(function) or "").partition("\n")[0]
    assert first.startswith(f"{name}("), f"the docstring of {name} starts {first!r}, not with its signature"
    definition = ast.parse(f"def {first}: ...").body[0]
    assert isinstance(definition, ast.FunctionDef)
    return definition.args


def parameters(arguments: ast.arguments) -> list[tuple[str, str, str | None]]:
    """Name, kind and default of every parameter but self."""
    positional: list[ast.arg] = [*arguments.posonlyargs, *arguments.args]
    defaults: list[ast.expr | None] = [None] * (len(positional) - len(arguments.defaults)) + list(arguments.defaults)
    keywords = zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
    found = [(argument.arg, "positional", default) for argument, default in zip(positional, defaults, strict=True)]
    found += [(argument.arg, "keyword", default) for argument, default in keywords]
    return [(name, kind, ast.unparse(default) if default else None) for name, kind, default in found if name != "self"]


def signatures() -> list[tuple[str, object, ast.FunctionDef]]:
    """Every function and method of the stub beside what the module has under that name."""
    methods = [
        (f"{name}.{key}", getattr(getattr(core, name), key, None), member)
        for name, node in CLASSES.items()
        for key, member in members(node).items()
        if not is_property(member) and (not key.startswith("__") or key == "__init__")
    ]
    return [(name, getattr(core, name, None), node) for name, node in FUNCTIONS.items()] + methods


def test_module_has_the_names_of_the_stub() -> None:
    public = {name for name in vars(core) if not name.startswith("_")}
    assert public == set(CLASSES) | set(FUNCTIONS)


@pytest.mark.parametrize("name", CLASSES)
def test_class_has_the_members_of_the_stub(name: str) -> None:
    stub, runtime = members(CLASSES[name]), vars(getattr(core, name))
    private = {key for key in runtime if key.startswith("_") and (not key.startswith("__") or key in IMPLIED)}
    inherited = {key for key in runtime if key.startswith("__") and key not in stub and hasattr(object, key)}
    extra = set(runtime) - set(stub) - private - inherited
    assert set(stub) - set(runtime) == set()
    assert extra == set()
    assert {key for key in stub if is_property(stub[key])} == {
        key for key in runtime if inspect.isdatadescriptor(runtime[key])
    }


@pytest.mark.parametrize(("name", "runtime", "stub"), [pytest.param(*case, id=case[0]) for case in signatures()])
def test_signature_is_that_of_the_stub(name: str, runtime: object, stub: ast.FunctionDef) -> None:
    assert parameters(written_signature(runtime, stub.name)) == parameters(stub.args)


@pytest.mark.parametrize("name", CLASSES)
def test_class_is_final(name: str) -> None:
    with pytest.raises(TypeError):
        type("Derived", (getattr(core, name),), {})


def test_mypy_stubtest_agrees() -> None:
    command = [sys.executable, "-m", "mypy.stubtest", "tensometer._core", "--concise"]
    environment = os.environ | {"MYPYPATH": str(PACKAGE.parent)}
    run = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert not run.stderr
    disagreements = [line for line in run.stdout.splitlines() if not PYBIND11.search(line)]
    assert not disagreements, "\n".join(disagreements)
