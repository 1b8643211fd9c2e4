"""The first value of a step that is not finite, and what brought it forth."""

from collections.abc import Mapping
from typing import Any

from tensometer.capture.sink import Sink

# Places in the order in which a step comes by them. Within one, the first report counts.
_ORDER = ("forward", "loss", "backward", "gradient", "weight")
# A run that stays broken says so a few times, not at every step.
MOST_REPORTS = 10
# How many steps after a find every module is watched, forward and backward.
WATCHED_STEPS = 3


class Origin:
    """Captures report what they see; the earliest place of a step becomes an event `nonfinite` of the run."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._found: tuple[str, Mapping[str, Any]] | None = None
        self._reports = 0
        self._watched = 0

    @property
    def watching(self) -> bool:
        """Whether modules are to be watched though nobody asked for activations: the step before was not finite."""
        return self._watched > 0

    def is_news(self, where: str) -> bool:
        """Whether a report of that place would count."""
        return self._found is None or _ORDER.index(where) < _ORDER.index(self._found[0])

    def report(self, where: str, data: Mapping[str, Any]) -> None:
        """where: forward, loss, backward, gradient or weight. data: JSON values."""
        if self.is_news(where):
            self._found = (where, data)

    def end_step(self) -> None:
        """Of steps that are captured or watched: tell what was found, and watch modules in the next, or no longer.

        Once a module is named there is nothing to watch for.
        """
        self._watched = max(0, self._watched - 1)
        if self._found is None:
            return
        (where, data), self._found = self._found, None
        if self._reports < MOST_REPORTS:
            self._reports += 1
            self._sink.event("nonfinite", {"where": where, **data})
            self._watched = 0 if where in ("forward", "backward") else WATCHED_STEPS
