"""A gradient that is out of all proportion for a step."""

import math
from collections.abc import Iterator

from tensometer.rules.base import Condition, Rule
from tensometer.rules.state import State
from tensometer.rules.step import Step
from tensometer.rules.window import pushed_number, usual

# So many values tell what is usual.
_WINDOW = 30
_ENOUGH = 8


class GradientSpike(Rule):
    """The norm of the gradient jumps far above what it was in the steps before.

    Condition: with `g` the norm of all gradients as the optimizer is about to use them, and m, s the median and the
    robust deviation (1.48 MAD) of `ln g` over the last 30 captured steps: `g >= times * exp(m)`, `ln g >= m + sigmas *
    s`, and `g >= leap * largest` so far.

    Defaults: times 15, sigmas 6: the norms of healthy runs are within a factor of five of their median over 30 steps,
    and up to 11 above it where another task begins;
    where they are not, as with heavy tails, s is large, and so is the largest norm so far. leap 3: behind a plateau the
    gradient grows tenfold as well, but in several steps, each a new record.

    Needs: `gradients`. Costs: one norm over tensors, a median only of candidates.

    Healthy look-alikes: heavy-tailed gradients with clipping (what is judged is clipped already); a solved problem
    (its gradients jump from nothing to little: not above the largest so far); the first steps (not judged).

    Example: `GradientSpike(times=30)`
    """

    needs = ("gradients",)
    causes = ("a corrupted batch, or a target far off", "a learning rate at the edge", "numbers that overflowed nearly")
    remedies = ("look at the batch of this step", "clip the gradient's norm", "a smaller learning rate")

    times: float = 15.0
    sigmas: float = 6.0
    leap: float = 3.0

    def check(self, step: Step, state: State) -> Iterator[Condition]:
        """Judge the norm of all gradients."""
        gradients = self.rows(step, "gradients")["l2"]
        norm = float(gradients @ gradients) ** 0.5
        if step.progress.skipped or not 0 < norm < math.inf:
            return
        largest = state.get("largest", 0.0)
        state["largest"] = max(largest, norm)
        before = pushed_number(state, "logarithms", _WINDOW, math.log(norm))
        limit = math.inf
        if len(before) >= _ENOUGH and norm >= self.leap * largest:
            middle, deviation = usual(before)
            limit = max(math.log(self.times), self.sigmas * deviation) + middle
        yield self.about(
            math.log(norm) >= limit,
            "the gradient's norm jumps to {value:.3g}, at most {threshold:.3g} would have been usual",
            value=norm,
            threshold=math.exp(min(limit, 700.0)),
            step=step,
            collection="gradients",
        )
