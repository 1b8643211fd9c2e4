"""Updates that replace weights instead of improving them."""

from collections.abc import Iterator

import numpy as np

from tensometer.rules.base import Condition, Rule
from tensometer.rules.state import State
from tensometer.rules.step import Step
from tensometer.rules.tensors import is_trained_matrix, replaced
from tensometer.rules.window import pushed, usual

_WINDOW = 10
_RECENT = 3


class UpdatesTooLarge(Rule):
    """The optimizer replaces weights within a few steps, or at once, instead of improving them.

    Condition: with `u = |update| / |weight after it|` of a trained weight matrix, where a weight counts as no smaller
    than such weights usually begin, and u is of one step of the optimizer, if it steps several times in a step of the
    run: the sum of u over three captured steps is at least `total` while no loss is below half of its first value; or u
    is at least `jump`, and ten times its median over the last ten steps. Of two trained matrices or more.

    Defaults: total 1.4. u of a weight that is replaced is 1, so the sum is 3 at most; healthy runs are below 0.3, Adam
    by a rate ten times too large below 0.8 in its first three steps, plain descent by the largest rate that still
    learns up to 1.34, and where nothing is learned above 1.5. jump 0.5: half of the weight is new by a single step.

    Needs: `updates`, `weights`. Costs: one division and one sum a matrix.

    Healthy look-alikes: weights that begin at zero, whose first updates are all they have (the size that they usually
    begin with stands for theirs); embeddings, of which rare rows are replaced (not judged); one rate that is large for
    a few steps (three steps must add up); a linear model or a probe, which has no first weights that matter (a single
    matrix); LBFGS, a step of which is a search (the loss falls by half in its first steps).

    Example: `UpdatesTooLarge(total=2.0, module_types=("Linear",))`
    """

    needs = ("updates", "weights")
    causes = ("a learning rate that is far too large, or a schedule that makes it so",)
    remedies = ("a smaller learning rate: a thousandth of a weight a step is usual", "warm-up, clipping")

    total: float = 1.4
    jump: float = 0.5

    def check(self, step: Step, state: State) -> Iterator[Condition]:
        """Judge each matrix, and those that jump against their own past."""
        updates = self.rows(step, "updates", where=is_trained_matrix)
        weights = step.group("weights").where(is_trained_matrix)
        if not step.progress.updated or len(updates) < 2:
            return
        part = replaced(updates, weights) / step.progress.updates
        last = pushed(step, state, "parts", _WINDOW + 1, updates, part)
        total = np.nan_to_num(last[:, -_RECENT:]).sum(1)
        learns = any(loss.first > 0 and loss.last < loss.first / 2 for loss in step.progress.losses.values())
        yield Condition(
            updates,
            (total >= self.total) & (not learns),
            "three steps have replaced {value:.0%} of {tensor}",
            total,
            self.total,
            kind="sustained",
        )
        jumps = part >= self.jump
        for at in np.flatnonzero(jumps).tolist():
            before = [value for value in last[at, :-1].tolist() if value == value]
            jumps[at] = len(before) >= _WINDOW // 2 and part[at] >= 10 * usual(before)[0]
        yield Condition(updates, jumps, "one step replaces {value:.0%} of {tensor}", part, self.jump, kind="jump")
