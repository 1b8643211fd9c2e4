"""What the callbacks for other frameworks share: a monitor of their own or the caller's, and values that wait."""

import os
import tempfile
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

import numpy as np

from tensometer.actions import StopTraining
from tensometer.capture.batches import on_device
from tensometer.capture.deferred import Deferred
from tensometer.monitor import Monitor
from tensometer.notices import warn
from tensometer.store import open_place


class MonitoredLoop:
    """A framework's training loop as a monitor sees it.

    target: a Monitor, which stays open when training is over, or where to make one at each begin(). settings: those of
    that Monitor. What is logged waits for the next captured step, so that nothing is lost between two of them.
    """

    def __init__(self, target: object, settings: Mapping[str, Any]) -> None:
        if not isinstance(target, Monitor | str | os.PathLike):
            raise TypeError(f"monitor: {target!r} is neither a Monitor nor the path or URL of a run")
        if isinstance(target, Monitor):
            if settings:
                raise TypeError(f"monitor: a Monitor has its settings already; {next(iter(settings))}= is one too many")
        else:
            # So that what is wrong is said now, not when training begins: a monitor leaves traces in its run.
            open_place(target)
            with tempfile.TemporaryDirectory() as folder:
                Monitor(folder, **settings).close()
        self._target, self._settings = target, dict(settings)
        self._strict = target.strict if isinstance(target, Monitor) else bool(settings.get("strict", False))
        self._warned = False
        self._waiting: dict[str, dict[str, Deferred]] = {}
        self.monitor: Monitor | None = None
        self.stopped = False  # an action has asked for the end, which each framework has its own way to come to

    def begin(self, step: int, *, rank: int, world_size: int) -> None:
        """Training begins or goes on: `step` steps are done. A run that is further on is continued behind its end."""
        self.end()
        self.stopped = False
        target = self._target
        if isinstance(target, Monitor):
            self.monitor = target
        else:
            self.monitor = Monitor(target, **({"rank": rank, "world_size": world_size} | self._settings))
        self.monitor.resume_at(step)

    def log(self, values: Mapping[str, object], *, phase: str = "") -> None:
        """Keep numbers, and tensors of one element, for the next captured step; the last of a name wins."""
        waiting = self._waiting.setdefault(phase, {})
        for name, value in values.items():
            waiting[name] = Deferred(partial(_number, value), value if on_device(value) else None)

    def forget(self, names: Iterable[str]) -> None:
        """Drop what was logged under some names of no phase."""
        waiting = self._waiting.get("", {})
        for name in names:
            waiting.pop(name, None)

    def end_step(self) -> None:
        """Close the step, with what was logged."""
        if self.monitor is None:
            return
        for phase, waiting in self._waiting.items():
            if phase:
                self._record(phase, waiting)
        self.monitor.step(**self._waiting.get("", {}))
        for phase, waiting in self._waiting.items():
            self._waiting[phase] = {name: value for name, value in waiting.items() if not value.taken}

    def _record(self, phase: str, waiting: Mapping[str, Deferred]) -> None:
        assert self.monitor is not None
        with self.monitor.phase(phase):
            for name, value in waiting.items():
                self.monitor.record(name, value, collection="losses" if "loss" in name else "metrics")

    def end(self, error: BaseException | None = None) -> None:
        """Training is over: remove all hooks; close the monitor, unless it is the caller's. error: what ended it."""
        monitor, self.monitor = self.monitor, None
        self._waiting.clear()
        if monitor is None:
            return
        if monitor is self._target:
            monitor.detach()
        else:
            monitor.close(error)

    def guard(self, work: Callable[[], None]) -> None:
        """Run a part of a callback so that no error of it reaches training; those of strict monitors do."""
        try:
            work()
        except StopTraining:
            self.stopped = True
        # Whatever goes wrong in capture, training goes on.
        except Exception as error:
            if self._strict:
                raise
            if not self._warned:
                self._warned = True
                warn(f"a callback failed: {type(error).__name__}: {error}; training goes on")


def _number(value: Any) -> np.float64:
    return np.float64(value.item() if hasattr(value, "item") else value)
