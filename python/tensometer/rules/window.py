"""Short memories of rules: the last values of each tensor, or of one number; and what is usual among them."""

import statistics
from collections.abc import Sequence

import numpy as np

from tensometer.rules.state import State
from tensometer.rules.step import Array, Indices, Step

# Of normal numbers the deviation is so many times the median distance from the median.
_NORMAL = 1.4826


def pushed(step: Step, state: State, name: str, length: int, ids: Indices, values: Array) -> Array:
    """Remember a value of some tensors; returns their last `length` ones, a row a tensor, the oldest first.

    ids: the numbers of the tensors. Where there were not so many yet, NaN comes before them.
    """
    found: Array | None = state.get(name)
    needed = len(step.catalogue)
    if found is None or len(found) < needed:
        grown = np.full((max(64, 2 * needed), length), np.nan)
        if found is not None:
            grown[: len(found)] = found
        found = state[name] = grown
    rows = np.concatenate([found[ids, 1:], values[:, None]], axis=1)
    found[ids] = rows
    return rows


def pushed_number(state: State, name: str, length: int, value: float) -> list[float]:
    """Remember a number; returns the last `length` ones before it."""
    found: list[float] = state.get(name, [])
    state[name] = [*found, value][-length:]
    return found


def usual(values: Sequence[float]) -> tuple[float, float]:
    """The median and a deviation that a few outliers do not move."""
    middle = statistics.median(values)
    return middle, _NORMAL * statistics.median([abs(value - middle) for value in values])
