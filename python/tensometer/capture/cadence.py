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
        """Collections to be stored at this step. now: a clock in seconds."""
        config = self.config
        # Most steps of most runs: nothing is due, and this is all that is done.
        return {name: chosen for name, chosen in config.collections.items() if self._is_due(name, chosen, step, now)}

    def captured(self, step: int, due: Mapping[str, CollectionConfig]) -> Mapping[str, CollectionConfig]:
        """Collections to be captured at this step, stored or not."""
        if not self.config.recorder:
            return due
        return {name: chosen for name, chosen in self.config.collections.items() if self._within(chosen, step)}

    def _is_due(self, name: str, chosen: CollectionConfig, step: int, now: float) -> bool:
        if chosen.steps is not None:
            return step in chosen.steps
        if not self._within(chosen, step):
            return False
        if chosen.seconds is not None:
            if now - self._last.get(name, -float("inf")) < chosen.seconds:
                return False
            self._last[name] = now
            return True
        every = self.config.every if chosen.every is None else chosen.every
        return (step - self._start(chosen)) % every == 0

    def _within(self, chosen: CollectionConfig, step: int) -> bool:
        stop = self.config.stop if chosen.stop is None else chosen.stop
        return step >= self._start(chosen) and (stop is None or step < stop)

    def _start(self, chosen: CollectionConfig) -> int:
        return self.config.start if chosen.start is None else chosen.start
