"""What TanhSaturation and SigmoidSaturation share: the mean slope of a squashing activation."""

from collections.abc import Callable

from tensometer.rules.base import Condition, Rule
from tensometer.rules.modules import is_hidden, solved
from tensometer.rules.step import Array, Group, Step, Where

# So many observations are the beginning: what is saturated then was born so.
_BEGINNING = 3


def flat(
    rule: Rule, step: Step, where: Where, slope_of: Callable[[Group], Array], share: float, first: float
) -> Condition:
    """The activations within the network whose mean slope is below a share of the steepest."""
    rows = rule.rows(step, "activations", where=where)
    slope = slope_of(rows)
    limit = first if step.progress.observed <= _BEGINNING else share
    holds = (slope < limit) & is_hidden(step, rows) & (not solved(step.progress))
    sentence = "{tensor} is saturated: on average its slope is {value:.1%} of the steepest"
    return Condition(rows, holds, sentence, slope, limit)
