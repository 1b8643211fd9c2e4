"""Weights that grow without end."""

from collections.abc import Iterator

import numpy as np

from tensometer.rules.base import Condition, Rule
from tensometer.rules.state import State
from tensometer.rules.step import Step
from tensometer.rules.tensors import is_trained_matrix, natural_norm
from tensometer.rules.window import pushed

_STEPS = 16


class WeightGrowth(Rule):
    """A weight grows by the same factor step after step, which learning does not make it do.

    Condition: the norm of a trained weight matrix grows by at least `pace` of itself at each of 16 steps in a row, and
    over the last eight at least as much, beside itself, as `steadily` times over the eight before. A weight counts as
    no smaller than such weights usually begin.

    Defaults: pace 0.03, steadily 0.9. An optimizer moves a weight by so much a step, whatever its size: beside that the
    growth becomes smaller; healthy runs grew by at most 0.04 over ten steps, by 0.025 over 16, and less and less.
    Growth by a factor is that of a decay of the wrong sign, or of a loss that runs away.

    Needs: `weights`. Costs: a comparison of 16 numbers a matrix.

    Healthy look-alikes: weights that begin at zero (they count as of the usual size); the first steps of momentum, in
    which updates become larger (some ten).

    Example: `WeightGrowth(pace=0.05)`
    """

    needs = ("weights",)
    causes = ("a weight decay of the wrong sign", "a loss of the wrong sign", "a learning rate that is too large")
    remedies = ("look at the sign of the decay and of the loss", "a smaller learning rate")

    pace: float = 0.03
    steadily: float = 0.9

    def check(self, step: Step, state: State) -> Iterator[Condition]:
        """Judge the course of each matrix's norm."""
        weights = self.rows(step, "weights", where=is_trained_matrix)
        if step.progress.skipped or not step.progress.updated or not len(weights):
            return
        sizes = np.log(np.maximum(weights["l2"], weights.each(natural_norm)))
        last = pushed(step, state, "sizes", _STEPS + 1, weights.ids, sizes)
        steps = last[:, 1:] - last[:, :-1]
        middle = last[:, _STEPS // 2]
        steady = last[:, -1] - middle >= self.steadily * (middle - last[:, 0])
        total = np.exp(last[:, -1] - last[:, 0])
        sentence = "{tensor} has grown to {value:.2f} times its norm in 16 steps, ever as fast"
        yield Condition(
            weights, (steps >= np.log1p(self.pace)).all(1) & steady, sentence, total, (1 + self.pace) ** _STEPS
        )
