"""Hugging Face transformers: a callback for Trainer."""

import os
from collections.abc import Mapping
from functools import partial
from typing import Any

from tensometer.capture.callbacks import MonitoredLoop
from tensometer.extras import require
from tensometer.monitor import Monitor

_transformers = require("transformers", extra="transformers", purpose="tensometer.capture.transformers")
_Callback: Any = _transformers.TrainerCallback


class MonitorCallback(_Callback):  # type: ignore[misc]
    """Captures what Trainer.train trains: a step is one of the optimizer, numbered by state.global_step before it.

    monitor: a Monitor, which stays open, or the path or URL of a run, whose monitor is made with the rank of the
    process when training begins and closed when it ends. settings: those of that Monitor.
    Recorded are the model and its optimizer as by Monitor.attach, under the model's own names; and the numbers that
    the trainer logs (`loss`, `grad_norm`, `learning_rate`, ...): in the collection `losses` if "loss" is in the name,
    else `metrics`; those of evaluation (`eval_loss`, ...) in the phase "eval". A step is closed when the next begins,
    so that what is logged or evaluated after it belongs to it; what is logged between two captured steps is recorded
    with the second. If an action stops the training, the trainer does so behind the next step. Nothing tells a callback
    of an exception: then the run is closed when the interpreter ends.
    """

    def __init__(self, monitor: Monitor | str | os.PathLike[str], **settings: Any) -> None:
        super().__init__()
        self._loop = MonitoredLoop(monitor, settings)
        self._stepped = False

    def on_train_begin(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        """Make or continue the run, and attach the model and its optimizer."""
        self._loop.guard(partial(self._begin, args, state, more["model"], more.get("optimizer")))

    def on_step_begin(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        """Close the step before."""
        self._loop.guard(self._end_step)
        control.should_training_stop = control.should_training_stop or self._loop.stopped

    def on_step_end(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        """The optimizer has stepped."""
        self._stepped = True

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **more: Any) -> None:
        """Keep what is logged. What is logged of the whole training is the last: a better model may then be loaded."""
        self._loop.guard(partial(self._log, logs or {}, ""))
        if "train_runtime" in (logs or {}):
            self._loop.guard(self._end_step)

    def on_evaluate(self, args: Any, state: Any, control: Any, metrics: Any = None, **more: Any) -> None:
        """Keep what an evaluation found."""
        self._loop.guard(partial(self._log, metrics or {}, "eval"))

    def on_train_end(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        """Close the last step, and finish the run."""
        self._loop.guard(self._end)

    def _begin(self, args: Any, state: Any, model: Any, optimizer: Any) -> None:
        self._stepped = False
        self._loop.begin(state.global_step, rank=args.process_index, world_size=args.world_size)
        assert self._loop.monitor is not None
        self._loop.monitor.attach(model, optimizer=optimizer, scaler=getattr(optimizer, "scaler", None))

    def _log(self, values: Mapping[str, Any], phase: str) -> None:
        if self._loop.monitor is None:
            return
        if phase:
            # The trainer has logged them too, without saying of what they are.
            self._loop.forget(values)
        numbers = {name: value for name, value in values.items() if isinstance(value, int | float)}
        self._loop.log(numbers, phase=phase)

    def _end_step(self) -> None:
        if self._stepped:
            self._stepped = False
            self._loop.end_step()

    def _end(self) -> None:
        try:
            self._end_step()
        finally:
            self._loop.end()
