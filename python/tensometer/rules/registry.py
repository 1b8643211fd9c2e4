"""Which rules there are: our own, those that are registered, those of installed packages, those of a file."""

import dataclasses
import importlib.util
import inspect
import os
import pkgutil
import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from typing import TypeGuard, TypeVar

from tensometer.notices import warn
from tensometer.rules.base import Rule

ENTRY_POINTS = "tensometer.rules"

R = TypeVar("R", bound=type[Rule])

_registered: dict[str, type[Rule]] = {}


def register(rule: R) -> R:
    """A decorator: the rule is known by the name of its class, and one of the default set. TypeError for no rule.

    A later one of the same name replaces the earlier. It is known in this process alone: where others judge runs, it is
    an entry point of a package, or in a file that the settings name.
    """
    _check(rule)
    _registered[rule.__name__] = rule
    return rule


def load(path: str | os.PathLike[str]) -> list[type[Rule]]:
    """Run a Python file, and return the rules that it defines. OSError; ImportError, naming it, if it raises an error.

    ValueError for a file that defines none.
    """
    file = Path(path)
    if not file.is_file():
        raise FileNotFoundError(f"rules: {file} is no file")
    name = f"tensometer_rules_of_{file.resolve().with_suffix('').as_posix().replace('.', '_')}"
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise ValueError(f"rules: {file} is no Python file")
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # whatever somebody's file raises
        raise ImportError(f"rules: {file}: {type(error).__name__}: {error}") from error
    found = [one for one in vars(module).values() if is_rule(one) and one.__module__ == name]
    if not found:
        raise ValueError(f"rules: {file} defines no subclass of tensometer.Rule")
    return [register(one) for one in found]


def known() -> dict[str, type[Rule]]:
    """All rules by name: our own in the order of their files, then those of others. A package that fails is told of."""
    found = {one.__name__: one for one in _own()}
    for entry in entry_points(group=ENTRY_POINTS):
        try:
            rule = entry.load()
            _check(rule)
            found[rule.__name__] = rule
        except Exception as error:  # whatever somebody's package raises
            warn(f"the rule {entry.value} cannot be loaded: {type(error).__name__}: {error}")
    return {**found, **_registered}


def _own() -> Sequence[type[Rule]]:
    package = import_module("tensometer.rules")
    names = sorted(module.name for module in pkgutil.iter_modules(package.__path__) if not module.ispkg)
    found = []
    for name in names:
        module = import_module(f"tensometer.rules.{name}")
        found += [one for one in vars(module).values() if is_rule(one) and one.__module__ == module.__name__]
    return found


def _check(rule: object) -> None:
    """TypeError for what is no rule, or cannot be made without settings, as all rules of the default set are."""
    if not is_rule(rule):
        raise TypeError(f"rule: {rule!r} is no subclass of tensometer.Rule, or one whose name begins with _")
    for one in dataclasses.fields(rule):
        if one.default is one.default_factory is dataclasses.MISSING:
            raise TypeError(f"{rule.__name__}.{one.name}: a setting needs a default")


def is_rule(value: object) -> TypeGuard[type[Rule]]:
    """Whether it is the class of a rule. Names that begin with _ are of classes that rules have in common."""
    return inspect.isclass(value) and issubclass(value, Rule) and value is not Rule and value.__name__[0] != "_"
