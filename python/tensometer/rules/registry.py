"""Which rules there are: our own, those that are registered, those of installed packages, those of a file."""

import importlib.util
import inspect
import os
import pkgutil
from collections.abc import Sequence
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from typing import TypeVar

from tensometer.notices import warn
from tensometer.rules.base import Rule

ENTRY_POINTS = "tensometer.rules"

R = TypeVar("R", bound=type[Rule])

_registered: dict[str, type[Rule]] = {}


def register(rule: R) -> R:
    """A decorator: the rule is known by the name of its class, and one of the default set. TypeError for no rule.

    A later one of the same name replaces the earlier.
    """
    if not (inspect.isclass(rule) and issubclass(rule, Rule) and rule is not Rule):
        raise TypeError(f"rule: {rule!r} is no subclass of tensometer.Rule")
    _registered[rule.__name__] = rule
    return rule


def load(path: str | os.PathLike[str]) -> list[type[Rule]]:
    """Run a Python file, and return the rules that it defines. OSError, SyntaxError, or what the file itself raises.

    ValueError for a file that defines none.
    """
    file = Path(path)
    if not file.is_file():
        raise FileNotFoundError(f"rules: {file} is no file")
    name = f"tensometer_rules_of_{file.stem}"
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise ValueError(f"rules: {file} is no Python file")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found = [one for one in vars(module).values() if _is_rule(one) and one.__module__ == name]
    if not found:
        raise ValueError(f"rules: {file} defines no subclass of tensometer.Rule")
    return [register(one) for one in found]


def known() -> dict[str, type[Rule]]:
    """All rules by name: our own in the order of their files, then those of others. A package that fails is told of."""
    found = {one.__name__: one for one in _own()}
    for entry in entry_points(group=ENTRY_POINTS):
        try:
            rule = entry.load()
            if not _is_rule(rule):
                raise TypeError(f"{rule!r} is no subclass of tensometer.Rule")
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
        found += [one for one in vars(module).values() if _is_rule(one) and one.__module__ == module.__name__]
    return found


def _is_rule(value: object) -> bool:
    # Names that begin with _ are of classes that rules have in common.
    return inspect.isclass(value) and issubclass(value, Rule) and value is not Rule and value.__name__[0] != "_"
