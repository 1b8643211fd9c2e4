"""Weights that grow without end."""

from collections.abc import Iterator

import numpy as np

from tensometer.rules.base import Condition, Rule
from tensometer.rules.state import State
from tensometer.rules.step import Step
from tensometer.rules.tensors import is_trained_matrix, joined, natural_norm
from tensometer.rules.window import pushed

_STEPS = 16


class WeightGrowth(Rule):
    """A weight grows by the same factor step after step, which learning does not make it do.

    Condition: the norm of a trained weight matrix grows by at least `pace` of itself at each of 16 steps in a row, and
    at each by at least `outwards` of the update's norm; and over the last eight at least as much, beside itself, as
    `steadily` times over the eight before. A weight counts as no smaller than such weights usually begin. Told if it is
    true of more than half of the matrices.

    Defaults: pace 0.03, outwards 0.85, steadily 0.9. An update that learns turns a weight as well: in healthy runs by
    momentum, or by large rates, weights grew by 0.03 to 0.1 a step for more than 16 steps, but the share of the update
    that made them longer was 0.2 to 0.6 when that began; and beside a growing weight what an optimizer adds becomes
    smaller. Growth by a factor is that of a decay of the wrong sign (0.9 to 1 outwards), or of a loss that runs away
    (0.9 and more).

    Needs: `weights`, `updates`. Costs: a comparison of 32 numbers a matrix.

    Healthy look-alikes: weights that begin at zero (they count as of the usual size); the first steps of momentum, in
    which updates become larger (they turn the weights); single layers that learn a scale, as the last of a regression
    whose targets are large.

    Example: `WeightGrowth(pace=0.05)`
    """

    fractions = ("outwards", "steadily")
    needs = ("weights", "updates")
    consecutive = True
    causes = ("a weight decay of the wrong sign", "a loss of the wrong sign", "a learning rate that is too large")
    remedies = ("look at the sign of the decay and of the loss", "a smaller learning rate")

    pace: float = 0.03
    outwards: float = 0.85
    steadily: float = 0.9

    def check(self, step: Step, state: State) -> Iterator[Condition]:
        """Judge the course of each matrix's norm."""
        weights = self.rows(step, "weights", where=is_trained_matrix)
        if step.progress.skipped or not step.progress.updated or not len(weights):
            return
        norms, updates = weights["l2"], step.group("updates")
        changes = joined(weights, updates, updates["l2"])
        both = pushed(step, state, "norms", 2, weights, norms)
        outwards = (both[:, 1] - both[:, 0]) / np.where(changes > 0, changes, np.inf)
        outwards = pushed(step, state, "outwards", _STEPS, weights, outwards)
        sizes = np.log(np.maximum(norms, weights.each(natural_norm)))
        last = pushed(step, state, "sizes", _STEPS + 1, weights, sizes)
        steps = last[:, 1:] - last[:, :-1]
        middle = last[:, _STEPS // 2]
        steady = last[:, -1] - middle >= self.steadily * (middle - last[:, 0])
        total = np.exp(last[:, -1] - last[:, 0])
        sentence = "{tensor} has grown to {value:.2f} times its norm in 16 steps, ever as fast"
        holds = (steps >= np.log1p(self.pace)).all(1) & (outwards >= self.outwards).all(1) & steady
        if holds.sum() == 1 and len(holds) > 1:
            holds = np.zeros_like(holds)
        yield Condition(weights, holds, sentence, total, (1 + self.pace) ** _STEPS)
