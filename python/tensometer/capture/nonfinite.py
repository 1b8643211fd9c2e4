"""The first value of a step that is not finite, and what brought it forth."""

from collections.abc import Mapping
from typing import Any

from tensometer.capture.sink import Sink

# Places in the order in which a step comes by them: what the model is called with, a module, the model as a whole, ...
# Within one, the first report counts.
_ORDER = ("input", "forward", "model", "loss", "backward", "gradient", "weight")
# Those that name the culprit, after which there is nothing to watch for.
_NAMED = ("input", "forward", "backward")
# A run that stays broken says so a few times, not at every step.
MOST_REPORTS = 10
# How many steps after a find every module is watched, forward and backward.
WATCHED_STEPS = 3


class Origin:
    """Captures report what they see; the earliest place of a step becomes an event `nonfinite` of the run."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._found: tuple[str, Mapping[str, Any]] | None = None
        self._confirmed = False
        self._reports = 0
        self._watched = 0
        self._first: int | None = None

    @property
    def watching(self) -> bool:
        """Whether modules are to be watched though nobody asked for activations: a step before was not finite."""
        return self._watched > 0

    @property
    def listens(self) -> bool:
        """Whether anything would still be told: not in a run that has said so often enough."""
        return self._reports < MOST_REPORTS

    def is_news(self, where: str) -> bool:
        """Whether a report of that place would count."""
        if not self.listens:
            return False
        return self._found is None or _ORDER.index(where) < _ORDER.index(self._found[0])

    def report(self, where: str, data: Mapping[str, Any]) -> None:
        """where: input, forward, model, loss, backward, gradient or weight. data: JSON values.

        parameters_not_finite: names of parameters that were not finite before. first: false if what went in was not.
        """
        self.suspect(where, data)
        self.confirm()

    def suspect(self, where: str, data: Mapping[str, Any]) -> None:
        """What may be meant, as a mask's infinities or missing values: told if the step comes by what nobody means."""
        if self.is_news(where):
            self._found = (where, data)

    def confirm(self) -> None:
        """Something in this step is not finite that nobody means."""
        self._confirmed = True

    def end_step(self) -> None:
        """Of steps that are captured or watched: tell what was found, and watch modules in the next, or no longer.

        Once a culprit is named there is nothing to watch for.
        """
        everywhere = self.watching
        self._watched = max(0, self._watched - 1)
        found, confirmed = self._found, self._confirmed
        self._found, self._confirmed = None, False
        if found is None or not confirmed:
            return
        where, data = found
        self._reports += 1
        explained = where in _NAMED and (everywhere or data.get("first", True))
        if data.get("parameters_not_finite") and self._first is not None:
            # The optimizer has carried what an earlier event tells of into the weights.
            data, explained = {**data, "consequence_of": self._first}, True
        else:
            self._first = self._sink.step
        self._sink.event("nonfinite", {"where": where, **data})
        self._watched = 0 if explained or not self.listens else WATCHED_STEPS
