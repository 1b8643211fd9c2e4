"""Numbers that a loop hands over: losses, metrics, settings."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from tensometer._core import SummaryTable, summarize_units


def summarize_numbers(numbers: Sequence[float], *, threads: int | None, **_: object) -> SummaryTable:
    """Of each number: without a histogram, which would say the same once more."""
    return summarize_units(np.array(numbers, dtype=np.float64), 0, threads=threads)


def number_of(name: str, value: Any) -> float:
    """A number, or a tensor of one element, as a number. TypeError, naming it, for anything else."""
    try:
        return float(value.item() if hasattr(value, "item") else value)
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise TypeError(f"{name}: {value!r:.100} is not a number: {error}") from error
