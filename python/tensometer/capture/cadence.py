"""Which collections are captured at which steps."""

from collections.abc import Mapping

from tensometer.capture.config import CollectionConfig, MonitorConfig


class Cadence:
    """Decides once a step. With a flight recorder every step within start and stop is captured."""

    def __init__(self, config: MonitorConfig) -> None:
        self.config = config
        self._last: dict[str, float] = {}

    def replace(self, config: MonitorConfig) -> None:
        """Go on with other settings; collections captured by time keep their clocks."""
        self.config = config

    def due(self, step: int, now: float) -> Mapping[str, CollectionConfig]:
        """Collections to be stored at this step, which begins now. now: a clock in seconds."""
        config = self.config
        # Most steps of most runs: nothing is due, and this is all that is done.
        return {name: chosen for name, chosen in config.collections.items() if self._is_due(name, chosen, step, now)}

    def passed(self, due: Mapping[str, CollectionConfig], began: float) -> None:
        """A step is over at which these were due: the clocks of those that are captured by time start anew."""
        for name, chosen in due.items():
            if chosen.seconds is not None:
                self._last[name] = began

    def captured(self, step: int, due: Mapping[str, CollectionConfig]) -> Mapping[str, CollectionConfig]:
        """Collections to be captured at this step, stored or not."""
        if not self.config.recorder:
            return due
        return {name: chosen for name, chosen in self.config.collections.items() if self._within(chosen, step)}

    def _is_due(self, name: str, chosen: CollectionConfig, step: int, now: float) -> bool:
        if chosen.steps is not None:
            return step in chosen.steps
        start, stop = self.config.span(chosen)
        if step < start or (stop is not None and step >= stop):
            return False
        if chosen.seconds is not None:
            return now - self._last.get(name, -float("inf")) >= chosen.seconds
        if chosen.every is not None:
            return (step - start) % chosen.every == 0
        return step - start < (self.config.dense or 0) or (step - start) % self.config.every == 0

    def _within(self, chosen: CollectionConfig, step: int) -> bool:
        start, stop = self.config.span(chosen)
        return step >= start and (stop is None or step < stop)
