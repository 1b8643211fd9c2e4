"""Rules as settings: of a dictionary or a TOML file."""

import dataclasses
import os
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tensometer.names import unknown
from tensometer.rules.base import Rule
from tensometer.rules.registry import is_rule, known, load


def default() -> list[Rule]:
    """The rules that a user gets who chooses nothing: all that need no settings of their own."""
    return [rule() for rule in known().values() if rule.by_default]


def chosen(given: object) -> list[Rule]:
    """The rules that someone asks for: True for the default set, a rule (or its class, or name), a list of them,
    settings as a dictionary, or the path of a TOML file. TypeError or ValueError, naming what was found, for others."""
    if given is True:
        return default()
    if given is None or given is False:
        return []
    if isinstance(given, Rule | type) or (isinstance(given, str) and given in known()):
        given = [given]
    if isinstance(given, str | os.PathLike):
        return from_file(given)
    if isinstance(given, Mapping):
        return from_settings(given)
    if not isinstance(given, Sequence):
        raise TypeError(f"rules: {given!r:.100} is neither true, a list of rules, settings, nor the path of a file")
    return [_rule(one) for one in given]


def from_file(path: str | os.PathLike[str]) -> list[Rule]:
    """The default set as a TOML file changes it; see from_settings(). OSError, TypeError, ValueError name the file.

    ImportError for a file of rules that raises an error.
    """
    try:
        return from_settings(tomllib.loads(Path(path).read_text(encoding="utf-8")), Path(path).parent)
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: is not UTF-8 (byte 0x{error.object[error.start]:02x} at {error.start})") from None
    except (TypeError, ValueError) as error:
        # Some kinds, which files of rules may raise, take more than a sentence.
        raise (TypeError if isinstance(error, TypeError) else ValueError)(f"{path}: {error}") from None


def from_settings(settings: Mapping[str, Any], folder: Path = Path()) -> list[Rule]:
    """The default set, changed: by name true, false, or the settings of a rule, which also put it in.

    `files`: paths of Python files with rules of one's own, from `folder`. `only`: names; the others are left out.
    TypeError or ValueError for a wrong key, which names the nearest; ImportError for a file that raises an error.
    """
    values = dict(settings)
    for file in _texts("files", values.pop("files", [])):
        load(folder / file)
    rules = known()
    only = values.pop("only", None)
    names = [name for name, rule in rules.items() if rule.by_default] if only is None else _texts("only", only)
    for name in [*names, *values]:
        if not isinstance(name, str):
            raise TypeError(f"rules: {name!r} is not the name of a rule")
        if name not in rules:
            raise ValueError(f"rules: {unknown(name, list(rules))}")
    names += [name for name, value in values.items() if value is not False and name not in names]
    return [_of(rules[name], values.get(name, True)) for name in names if values.get(name) is not False]


def _of(rule: type[Rule], value: object) -> Rule:
    if value is True:
        return rule()
    if not isinstance(value, Mapping):
        raise TypeError(f"{rule.__name__}: {value!r} is neither true, false nor settings")
    fields = [one.name for one in dataclasses.fields(rule)]
    for key in value:
        if key not in fields:
            raise ValueError(f"{rule.__name__}: {unknown(str(key), fields)}")
    return rule(**value)


def _rule(one: object) -> Rule:
    if isinstance(one, Rule):
        return one
    if is_rule(one):
        return one()
    rules = known()
    if isinstance(one, str):
        if one not in rules:
            raise ValueError(f"rules: {unknown(one, list(rules))}")
        return rules[one]()
    raise TypeError(f"rules: {one!r:.100} is no rule, no subclass of tensometer.Rule, and no name of one")


def _texts(name: str, value: object) -> list[str]:
    if not isinstance(value, list | tuple) or not all(isinstance(one, str) for one in value):
        raise TypeError(f"{name}: {value!r} is not a list of texts")
    return list(value)
