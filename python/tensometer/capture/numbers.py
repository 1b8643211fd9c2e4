"""Numbers that a loop hands over: losses, metrics, settings."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from tensometer._core import Summary, SummaryTable, summarize_units
from tensometer.capture.batches import any_on_device
from tensometer.capture.deferred import Deferred
from tensometer.capture.sink import Sink


def summarize_numbers(numbers: Sequence[float], *, threads: int | None, **_: object) -> SummaryTable:
    """Of each number: without a histogram, which would say the same once more."""
    return summarize_units(np.array(numbers, dtype=np.float64), 0, threads=threads)


def number_of(name: str, value: Any) -> float:
    """A number, or a tensor of one element, as a number. TypeError, naming it, for anything else."""
    try:
        return float(value.item() if hasattr(value, "item") else value)
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise TypeError(f"{name}: {value!r:.100} is not a number: {error}") from error


def numbers_of(values: Mapping[str, object], sink: Sink, use: Callable[[dict[str, float]], None]) -> None:
    """As Sink.numbers."""
    found: dict[str, float | None] = {}
    for name, value in values.items():
        try:
            value = value.tensor() if isinstance(value, Deferred) else value
            if any_on_device(value):
                found[name] = None
                _look_at(name, value, sink, found)
            else:
                found[name] = number_of(name, value)
        except Exception as error:
            sink.failed(error)
    sink.after(lambda: use({name: value for name, value in found.items() if value is not None}))


def _look_at(name: str, value: Any, sink: Sink, found: dict[str, float | None]) -> None:
    """To ask a tensor on a device for its element would wait for the device: its summary says the same."""
    size = math.prod(value.shape)
    if size != 1:
        raise TypeError(f"{name}: a tensor of {size} elements is not a number")
    sink.look([value], lambda rows: found.update({name: _element_of(rows[0])}))


def _element_of(summary: Summary) -> float:
    if summary.nonfinite:
        return math.nan if summary.nan else math.inf if summary.posinf else -math.inf
    return float(summary.min)
