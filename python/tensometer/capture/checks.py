"""What settings are checked with: TypeError or ValueError that name the key and what was found."""

import dataclasses
import math
import operator
import re
from collections.abc import Mapping, Sequence
from typing import Any

from tensometer.names import unknown


def known(place: str, values: Mapping[str, Any], kind: type[Any]) -> Mapping[str, Any]:
    """The values, if every key is a field of the dataclass."""
    if not isinstance(values, Mapping):
        raise TypeError(f"{place}: {values!r} is not a mapping of settings")
    names = [one.name for one in dataclasses.fields(kind)]
    for key in values:
        if key not in names:
            raise ValueError(f"{place}: {unknown(str(key), names)}")
    return values


def check_whole(name: str, value: object, least: int, most: int | None = None, *, optional: bool = False) -> None:
    """A whole number from least to most; None too, if optional."""
    if optional and value is None:
        return
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{name}: {value!r} is not a whole number")
    if value < least:
        raise ValueError(f"{name}: {value} is less than {least}")
    if most is not None and value > most:
        raise ValueError(f"{name}: {value} is more than {most}")


def whole(name: str, value: object, least: int) -> int:
    """A whole number, at least `least`, from a loop: those of NumPy and others are whole numbers too."""
    if not isinstance(value, bool) and hasattr(value, "__index__"):
        value = operator.index(value)
    check_whole(name, value, least)
    assert isinstance(value, int)
    return value


def check_range(name: str, start: int, stop: int | None) -> None:
    """Steps from start to stop, if there is a stop."""
    if stop is not None and start > stop:
        raise ValueError(f"{name}: {start} is behind stop, {stop}: no step would be captured")


def check_text(name: str, value: object) -> None:
    """A text."""
    if not isinstance(value, str):
        raise TypeError(f"{name}: {value!r:.100} is not a text")


def check_seconds(name: str, value: object, *, optional: bool = False) -> None:
    """A positive finite number; None too, if optional."""
    if optional and value is None:
        return
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise TypeError(f"{name}: {value!r} is not a number of seconds")
    if not (math.isfinite(value) and value > 0):
        raise ValueError(f"{name}: {value} is not a positive number of seconds")


def check_timeout(name: str, value: object) -> None:
    """A finite number of seconds, which may be 0."""
    if value != 0 or isinstance(value, bool):
        check_seconds(name, value)


def check_choice(name: str, value: object, choices: Sequence[object]) -> None:
    """One of the choices, of the same type."""
    if not any(value == choice and type(value) is type(choice) for choice in choices):
        *most, last = map(repr, choices)
        raise ValueError(f"{name}: {value!r} is not {', '.join(most)} or {last}")


def checked_tuple(name: str, value: object, kind: type[Any]) -> tuple[Any, ...] | None:
    """A list of texts, or of whole numbers that are not negative, as a tuple; None stays None."""
    if value is None:
        return None
    if not isinstance(value, list | tuple) or not all(isinstance(one, kind) for one in value):
        raise TypeError(f"{name}: {value!r} is not a list of {'whole numbers' if kind is int else 'texts'}")
    if kind is int:
        for one in value:
            check_whole(name, one, 0)
    return tuple(value)


def check_expression(name: str, value: object) -> None:
    """A regular expression or None."""
    if value is None:
        return
    if not isinstance(value, str):
        raise TypeError(f"{name}: {value!r} is not a regular expression")
    try:
        re.compile(value)
    except re.error as error:
        raise ValueError(f"{name}: {value!r} is not a regular expression: {error}") from error
