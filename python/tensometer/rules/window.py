"""Short memories of rules: the last values of each tensor, or of one number; and what is usual among them."""

import statistics
from collections.abc import Sequence

import numpy as np

from tensometer.rules.group import Array, Group
from tensometer.rules.state import State
from tensometer.rules.step import Step

# Of normal numbers the deviation is so many times the median distance from the median.
_NORMAL = 1.4826


def pushed(step: Step, state: State, name: str, length: int, group: Group, values: Array) -> Array:
    """Remember a value of a group's tensors; returns their last `length` ones, a row a tensor, the oldest first.

    Where there were not so many yet, NaN comes before them.
    """
    found: Array | None = state.get(name)
    needed = len(step.catalogue)
    if found is None or found.shape[1] < needed:
        grown = np.full((length, max(64, 2 * needed)), np.nan)
        if found is not None:
            grown[:, : found.shape[1]] = found
        found = state[name] = grown
    # Tensors lie side by side, so that all move on by one at once.
    last = np.empty((length, len(values)))
    last[:-1], last[-1] = found[1:, group.part.span], values
    found[:, group.part.span] = last
    return last.T


def pushed_number(state: State, name: str, length: int, value: float) -> list[float]:
    """Remember a number; returns the last `length` ones before it."""
    found: list[float] = state.get(name, [])
    state[name] = [*found, value][-length:]
    return found


def usual(values: Sequence[float]) -> tuple[float, float]:
    """The median and a deviation that a few outliers do not move."""
    middle = statistics.median(values)
    return middle, _NORMAL * statistics.median([abs(value - middle) for value in values])
