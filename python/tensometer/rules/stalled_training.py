"""A training that does not go on."""

from collections.abc import Iterator

from tensometer.rules.base import Condition, Rule
from tensometer.rules.losses import median, remember
from tensometer.rules.state import State
from tensometer.rules.step import Step

_INTERVALS = 20
# With fewer intervals than this nobody knows what is usual, but that nothing has come at all.
_FEW = 3
# Kinds of events behind which another process goes on with the run.
_ENDS = ("end", "interrupted")


class StalledTraining(Rule):
    """No captured step has come for a long time.

    Condition: the time since the last captured step `> seconds`, and `> factor` times the median of the
    last 20 intervals between captured steps.

    Defaults: seconds 1800 as in Amazon SageMaker Debugger's StalledTraining; factor 10, as captured steps of a large
    model may by themselves lie that far apart.

    Needs: nothing. Costs: a difference a step. While a run is followed from outside, the time that has gone by since
    its last step is judged too; a process that hangs cannot tell of it by itself, but tells of the pause when it goes
    on.

    Healthy look-alikes: long evaluations, checkpoints and captures that are far apart, by the two limits; a run
    that has ended or was interrupted, and was taken up later.

    Example: `StalledTraining(seconds=300.0)`
    """

    causes = ("a worker or data loader that hangs", "a collective operation that waits for a lost rank")
    remedies = ("look at where the processes stand, as by py-spy dump", "look at disks, network and other ranks")

    seconds: float = 1800.0
    factor: float = 10.0

    def check(self, step: Step, state: State) -> Iterator[Condition]:
        """Judge the time since the step before."""
        last, state["last"] = state.get("last"), step.time
        if last is None or any(event.kind in _ENDS for event in step.events):
            return
        if len(state.get("intervals") or []) >= _FEW:
            yield self._judged(step, step.time - last, state)
        remember(state, "intervals", step.time - last, _INTERVALS)

    def check_pause(self, step: Step, seconds: float, state: State) -> Condition | None:
        """Judge the time since the last step."""
        return self._judged(step, seconds, state)

    def _judged(self, step: Step, seconds: float, state: State) -> Condition:
        usual = median(state.get("intervals") or [0.0])
        limit = max(self.seconds, self.factor * usual)
        sentence = "no step was captured for {value:.0f} s; usually one comes every {usual:.3g} s"
        return self.about(seconds > limit, sentence, value=seconds, threshold=limit, step=step, usual=usual)
