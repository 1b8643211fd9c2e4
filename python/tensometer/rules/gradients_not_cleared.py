"""Gradients that are added to those of the steps before."""

from collections.abc import Iterator

import numpy as np

from tensometer.rules.base import Condition, Rule
from tensometer.rules.finding import Severity
from tensometer.rules.state import State
from tensometer.rules.step import Array, Key, Step
from tensometer.rules.tensors import is_trained
from tensometer.rules.window import pushed

# So many first gradients are looked at.
_STEPS = 6


class GradientsNotCleared(Rule):
    """zero_grad() is missing: each step adds its gradient to all those before it, and uses the sum.

    Condition: of the first six captured gradients of a tensor, the norm grows at each, as a sum does: to `growth` times
    the first or more; not faster and faster (over the last steps by no more than before); and smoothly: the squares of
    its steps add up to at most `roughness` of its squared deviations. So it is of `share` of an optimizer's tensors, of
    which there are at least four.

    Defaults: growth 1.8: six gradients add up to six times one if they are alike and to 2.4 times if they are
    independent; roughness 0.8: 0.34 for a straight line, 2 for values without order. share 0.7: faults had 0.75 to 1,
    healthy runs at most 0.4, which leave a plateau: their gradients grow faster and faster.

    Needs: `gradients`, from the beginning of a training, at every step. Costs: a few operations over tensors for six
    steps, then nothing.

    Healthy look-alikes: accumulation over several backward passes (gradients are captured once, when the optimizer
    steps; without an optimizer attached nothing is judged); a whole data set as one batch (smooth, but no growth);
    plateaus that are left.

    Example: `GradientsNotCleared(share=0.9)`
    """

    needs = ("gradients",)
    wants = ("loop",)
    causes = ("optimizer.zero_grad() is missing, or called on another optimizer",)
    remedies = ("call optimizer.zero_grad() before each backward pass that begins a step",)

    severity: Severity = Severity.ERROR
    growth: float = 1.8
    roughness: float = 0.8
    share: float = 0.7

    def check(self, step: Step, state: State) -> Iterator[Condition]:
        """Judge the first gradients of each optimizer's tensors."""
        gradients = self.rows(step, "gradients", where=_has_optimizer)
        seen = state.get("seen", 0)
        if seen >= _STEPS or step.progress.skipped or not step.progress.updated or not len(gradients):
            return
        state["seen"] = seen + 1
        norms = pushed(step, state, "norms", _STEPS, gradients.ids, gradients["l2"])
        if seen + 1 < _STEPS:
            return
        gathers = self._gather(norms)
        optimizers = gradients.facts("optimizer", 0)
        holds = np.zeros(len(gradients), bool)
        for one in set(optimizers.tolist()):
            own = optimizers == one
            if own.sum() >= 4 and gathers[own].sum() >= self.share * own.sum():
                holds |= own & gathers
        sentence = "the gradient of {tensor} has grown to {value:.1f} times the first, as if it were never cleared"
        yield Condition(gradients, holds, sentence, norms[:, -1] / np.maximum(norms[:, 0], 1e-300), self.growth)

    def _gather(self, norms: Array) -> Array:
        """Of each row of norms, whether it grows as the norm of a sum does. No for NaN."""
        steps = norms[:, 1:] - norms[:, :-1]
        apart = norms - norms.sum(1, keepdims=True) / _STEPS
        middle = norms[:, _STEPS // 2]
        # Over the first three steps, and over the two after them.
        before, after = (middle - norms[:, 0]) / 3, (norms[:, -1] - middle) / 2
        smooth = (steps * steps).sum(1) <= self.roughness * (apart * apart).sum(1)
        rising = (steps > -0.05 * norms[:, 1:]).sum(1) >= _STEPS - 2
        large = norms[:, -1] >= self.growth * norms[:, 0]
        result: Array = smooth & rising & large & (after <= 1.2 * before) & (norms[:, 0] > 0)
        return result


def _has_optimizer(key: Key) -> bool:
    return key.facts.get("optimizer") is not None and is_trained(key)
