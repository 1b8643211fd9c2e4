"""Weights that are decayed to nothing."""

from collections.abc import Iterator

import numpy as np

from tensometer.rules.base import Condition, Rule
from tensometer.rules.state import State
from tensometer.rules.step import Step
from tensometer.rules.tensors import is_trained_matrix
from tensometer.rules.window import pushed

# Steps over which the fast and the slow shrinking must go on.
_FAST, _SLOW = 4, 12


class WeightCollapse(Rule):
    """Step by step a weight loses a part of its size: decay is stronger than what is learned.

    Condition: the norm of a trained weight matrix shrinks by at least `fast` of itself at each of four steps in a row,
    or by at least `slow` at each of twelve; and it is below `left` of what it was first seen with.

    Defaults: fast 0.02, slow 0.008. In healthy runs no matrix shrank by more than 0.002 a step over that time, decay
    included (AdamW by a rate of 3e-3 and a decay of 0.1 takes 3e-4 a step), but for those that had grown before; a
    decay that halves weights in 35 steps takes 0.02. left 0.75: a small last layer that learns to point elsewhere came
    to 0.8 of its norm.

    Needs: `weights`. Costs: a comparison of twelve numbers a matrix.

    Healthy look-alikes: weights that are pruned or put in anew (one step, not four); weights that begin too large and
    find their size (slower); decay to a balance with what is learned (slower); weights that came from zero, or were
    thrown far out by the first updates, and find back (no smaller than at first).

    Example: `WeightCollapse(fast=0.05)`
    """

    fractions = ("left",)
    needs = ("weights",)
    consecutive = True
    causes = ("a weight decay that is far too strong for the learning rate",)
    remedies = ("a smaller weight decay: rate times decay is what is lost a step",)

    fast: float = 0.02
    slow: float = 0.008
    left: float = 0.75

    def check(self, step: Step, state: State) -> Iterator[Condition]:
        """Judge the course of each matrix's norm."""
        weights = self.rows(step, "weights", where=is_trained_matrix)
        if step.progress.skipped or not step.progress.updated or not len(weights):
            return
        norms = pushed(step, state, "norms", _SLOW + 1, weights, weights["l2"])
        first = state.of_tensors("first", len(step.catalogue), np.nan)
        first[weights.ids] = np.where(np.isnan(first[weights.ids]), norms[:, -1], first[weights.ids])
        shrunk = (norms[:, -1] > 0) & (norms[:, -1] <= self.left * first[weights.ids])
        kept = norms[:, 1:] / (norms[:, :-1] + 1e-300)
        fast = (kept[:, -_FAST:] <= 1 - self.fast).all(1)
        slow = (kept <= 1 - self.slow).all(1)
        lost = 1 - norms[:, -1] / (norms[:, -1 - _FAST] + 1e-300)
        sentence = "{tensor} has lost {value:.0%} of its norm in four steps, and goes on"
        yield Condition(weights, (fast | slow) & shrunk, sentence, lost, self.fast)
