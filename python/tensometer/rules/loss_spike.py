"""A loss that jumps."""

from collections.abc import Iterator

from tensometer.rules.base import Condition, Rule
from tensometer.rules.losses import came_back, median, remember, spread, training_loss
from tensometer.rules.state import State
from tensometer.rules.step import Step

_WINDOW = 30
_LEAST = 15
# A jump that lasts longer is a change of the task, or the training is lost.
_LASTS = 1


class LossSpike(Rule):
    """The training loss jumps far out of its recent range, and comes back.

    Condition: at some step, with m the median of the last 30 losses, d their deviation (median absolute) and x the
    largest of them: `loss - m > deviations d`, `> 4 (x - m)`, and `> share` of the first loss's size; told when the
    loss has come three quarters of the way back in the next step (all but 1/4n of the way n steps later), or at once if
    it is ten times above the first loss.

    Defaults: 10 deviations, share 0.5. Losses of small batches have heavy tails, so that deviations alone fire on
    healthy runs; four times the largest excess of thirty steps is what such tails have once in thousands of steps, and
    half of the first loss means that for this batch the training might not have been.

    Needs: `losses`, of which one is plainly what is trained. Costs: two medians of 30 numbers a step.

    Healthy look-alikes: noisy and heavy-tailed losses of small batches; a solved problem, whose loss of 0.001 jumps to
    0.1 with a single hard sample; a change of the task, after which the loss takes two steps or more to come that far
    back; the first steps, which have no range yet.

    Example: `LossSpike(share=0.2)`
    """

    needs = ("losses",)
    causes = ("a corrupted batch", "a learning rate that is too large by now", "gradients that were not clipped")
    remedies = ("look at the batch of that step", "clip gradients", "skip updates whose gradients are out of range")

    deviations: float = 10.0
    share: float = 0.5

    def check(self, step: Step, state: State) -> Iterator[Condition]:
        """Compare the loss with those before it, and with the jump that it may come back from."""
        found = training_loss(step)
        if found is None:
            return
        name, loss = found
        first: float = state.get("first", abs(loss))
        state["first"] = first
        recent: list[float] = state.get("recent") or []
        if state.get("jump") is None and (len(recent) < _LEAST or loss <= self._limit(recent, first)):
            remember(state, "recent", loss, _WINDOW)
            yield self.about(False, "", value=loss, threshold=loss, step=step, tensor=name)
            return
        # Where it began and how high it has come, and what it jumped from and beyond.
        at, peak, level, limit = state.get("jump") or (step.number, loss, median(recent), self._limit(recent, first))
        peak = max(peak, loss)
        state["jump"], state["lasted"] = [at, peak, level, limit], state.get("lasted", 0) + 1
        back = step.number > at and came_back(level, peak, loss, step.number - at)
        tells = back or loss > 10 * first
        if tells or state["lasted"] > _LASTS:
            # What comes is another range than what was.
            state["jump"], state["lasted"], state["recent"] = None, 0, recent if tells else []
        sentence = "{tensor} jumped to {value:.4g} at step {at}, from {level:.4g}"
        more = {"tensor": name, "collection": "losses", "level": level, "at": at}
        yield self.about(tells, sentence, value=peak, threshold=limit, step=step, **more)

    def _limit(self, recent: list[float], first: float) -> float:
        middle = median(recent)
        return middle + max(self.deviations * spread(recent), 4 * (max(recent) - middle), self.share * first)
