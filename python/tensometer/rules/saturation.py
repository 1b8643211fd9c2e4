"""What TanhSaturation and SigmoidSaturation share: the mean slope of a squashing activation."""

from collections.abc import Callable

import numpy as np

from tensometer.rules.base import Condition, Rule
from tensometer.rules.group import Array, Group, Where
from tensometer.rules.modules import is_hidden, solved
from tensometer.rules.step import Step

# So many observations are the beginning: what is saturated then was born so.
_BEGINNING = 3


def flat(
    rule: Rule,
    step: Step,
    where: Where,
    slope_of: Callable[[Group], Array],
    share: float,
    first: float,
    side: float = -np.inf,
) -> Condition:
    """The activations within the network whose mean slope is below a share of the steepest.

    first: the share in the first steps. side: there the mean must be so far from 0 and 1, or it is shut by design.
    """
    rows = rule.rows(step, "activations", where=where)
    slope = slope_of(rows)
    begins = step.progress.observed <= _BEGINNING
    limit = first if begins else share
    open_ = (rows["mean"] >= side) & (rows["mean"] <= 1 - side) if begins else True
    holds = (slope < limit) & open_ & is_hidden(step, rows) & (not solved(step.progress))
    sentence = "{tensor} is saturated: on average its slope is {value:.1%} of the steepest"
    return Condition(rows, holds, sentence, slope, limit)
