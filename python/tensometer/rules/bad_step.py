"""One step that is unlike all others."""

import math
from collections.abc import Iterator

from tensometer.rules.base import Condition, Rule
from tensometer.rules.losses import came_back
from tensometer.rules.state import State
from tensometer.rules.step import Step
from tensometer.rules.window import pushed_number, usual

_WINDOW = 20
_ENOUGH = 8


class BadStep(Rule):
    """One batch is corrupted: the loss and the gradient jump together for a step.

    Condition: a loss is at least `times` its median over the last 20 captured steps, above it by at least `sigmas`
    robust deviations (1.48 MAD), and above every value of that time; the same is true of the norm of all gradients; and
    the loss is `worse` times its very first value or more, or the inputs' largest magnitude jumps in the same way; told
    when the loss has come three quarters of the way back in the next step (all but 1/4n of the way n steps later). Or:
    the inputs' largest magnitude is `input_times` the largest of the last 20 steps, whatever the loss says.

    Defaults: times 3, sigmas 8, worse 1, input_times 30. Batches differ by a factor of two, also late in a training,
    where losses are small and uneven; but a batch on which a trained network is worse than an untrained one is no batch
    like the others.

    Needs: `gradients`, `losses`. Costs: one norm, medians only of candidates.

    Healthy look-alikes: a hard batch of a network that is nearly done (better than at the beginning); heavy tails (the
    deviations are large); another task (the loss does not come back in a step); a step after which nothing is as before
    is told by LossSpike and GradientSpike as well.

    Example: `BadStep(times=10)`
    """

    needs = ("gradients", "losses")
    wants = ("inputs",)
    causes = ("corrupted inputs or labels in this batch", "a file of the data set that is damaged")
    remedies = ("look at the batch of this step", "skip updates by such batches")

    times: float = 3.0
    sigmas: float = 8.0
    worse: float = 1.0
    input_times: float = 30.0

    def check(self, step: Step, state: State) -> Iterator[Condition]:
        """Judge each loss together with the gradient and the inputs."""
        gradients = step.group("gradients")["l2"]
        gradient_jumps = self._is_far(state, "gradient", float(gradients @ gradients) ** 0.5)
        largest = max(self.rows(step, "inputs")["linf"].tolist(), default=0.0)
        limit = self.input_times * max(state.get("input", ()), default=math.inf)
        input_jumps = self._is_far(state, "input", largest)
        yield self.about(
            input_jumps and 0 < limit <= largest,
            "an element of the inputs is {value:.3g}, at most {threshold:.3g} would have been usual",
            value=largest,
            threshold=limit,
            step=step,
            collection="inputs",
            kind="input",
        )
        for name, loss in step.scalars("losses").items():
            known = step.progress.losses.get(name)
            jumps = self._is_far(state, f"loss {name}", loss)
            bad = known is not None and known.first > 0 and (loss >= self.worse * known.first or input_jumps)
            # What this step is, the next one tells: the loss comes back from a bad batch.
            at, peak, level = state.get(f"jump {name}") or (step.number, math.nan, 0.0)
            usually = usual(state[f"loss {name}"])[0]
            state[f"jump {name}"] = [step.number, loss, usually] if jumps and gradient_jumps and bad else None
            yield self.about(
                peak > level and came_back(level, peak, loss, max(1, step.number - at)),
                "{tensor} jumped to {value:.3g} at step {at}, worse than it ever was, and the gradient with it",
                at=at,
                value=peak,
                threshold=self.worse * known.first if known is not None else 0.0,
                step=step,
                tensor=name,
                collection="losses",
                kind=f"loss {name}",
            )

    def _is_far(self, state: State, name: str, value: float) -> bool:
        before = pushed_number(state, name, _WINDOW, value)
        if len(before) < _ENOUGH or not value > max(before):
            return False
        middle, deviation = usual(before)
        return middle > 0 and value >= self.times * middle and value - middle >= self.sigmas * deviation
