"""Lightning: a callback for lightning.pytorch (or pytorch_lightning, whichever the script has imported)."""

import os
import sys
from collections.abc import Mapping
from functools import partial
from typing import Any

from tensometer.capture.callbacks import MonitoredLoop
from tensometer.capture.deferred import Deferred
from tensometer.extras import available, require
from tensometer.monitor import Monitor


def _lightning() -> Any:
    """The package whose Trainer will call: the same classes exist twice, under two names."""
    names = ("lightning.pytorch", "pytorch_lightning")
    loaded = next((sys.modules[name] for name in names if name in sys.modules), None)
    purpose = "tensometer.capture.lightning"
    return loaded or available(names[0]) or require(names[1], extra="lightning", purpose=purpose)


_Callback: Any = _lightning().Callback


class MonitorCallback(_Callback):  # type: ignore[misc]
    """Captures what Trainer.fit trains: a step is a batch after which optimizers have stepped, or several accumulated.

    monitor: a Monitor, which stays open, or the path or URL of a run, whose monitor is made with the trainer's global
    rank when training begins and closed when it ends, also by an exception. settings: those of that Monitor.
    Recorded are the module and all its optimizers as by Monitor.attach, under the module's own names; `loss`, which
    training_step returned (of the last batch, if several are accumulated); and what is logged with self.log, under its
    name: in the collection `losses` if "loss" is in the name, else `metrics`, of validation in the phase "eval". If an
    action stops the training, the trainer does so behind the next batch. A step
    is closed when the next begins, so that what is logged or validated after it belongs to it; what is logged between
    two captured steps is recorded with the second. Steps are numbered by trainer.global_step before them; where several
    optimizers step in a batch, which global_step counts apiece, by batches from there.
    """

    def __init__(self, monitor: Monitor | str | os.PathLike[str], **settings: Any) -> None:
        super().__init__()
        self._loop = MonitoredLoop(monitor, settings)
        self._stepped = 0
        self._seen: dict[str, object] = {}

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Make or continue the run, and attach the module and its optimizers."""
        self._loop.guard(partial(self._begin, trainer, pl_module))

    def on_train_batch_start(self, trainer: Any, *_: object) -> None:
        """Close the step before, if its optimizers have stepped."""
        self._loop.guard(partial(self._end_step, trainer))
        trainer.should_stop = trainer.should_stop or self._loop.stopped

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, *_: object) -> None:
        """Keep the loss and what was logged."""
        self._loop.guard(partial(self._log, trainer, outputs, ""))

    def on_validation_end(self, trainer: Any, *_: object) -> None:
        """Keep what validation logged."""
        if not trainer.sanity_checking:
            self._loop.guard(partial(self._log, trainer, None, "eval"))

    def on_train_end(self, trainer: Any, *_: object) -> None:
        """Close the last step, and finish the run."""
        self._loop.guard(partial(self._end, trainer))

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        """Finish the run, and say in it what has happened."""
        self._loop.guard(partial(self._end, trainer, exception))

    def _begin(self, trainer: Any, module: Any) -> None:
        self._stepped = trainer.global_step
        self._seen = dict(trainer.callback_metrics)
        self._loop.begin(trainer.global_step, rank=trainer.global_rank, world_size=trainer.world_size)
        assert self._loop.monitor is not None
        scaler = getattr(trainer.precision_plugin, "scaler", None)
        self._loop.monitor.attach(module, optimizer=trainer.optimizers, scaler=scaler)

    def _log(self, trainer: Any, outputs: Any, phase: str) -> None:
        if self._loop.monitor is None:
            return
        loss = outputs.get("loss") if isinstance(outputs, Mapping) else outputs
        if loss is not None:
            # Lightning hands it over as a part of the mean over the batches that it accumulates.
            parts = trainer.accumulate_grad_batches
            self._loop.log({"loss": Deferred(lambda: loss.item() * parts)}, phase=phase)
        # Lightning hands over every value that was ever logged.
        metrics = dict(trainer.callback_metrics)
        new = {name: value for name, value in metrics.items() if not _same(self._seen.get(name), value)}
        self._loop.log(new, phase=phase)
        self._seen = metrics

    def _end_step(self, trainer: Any) -> None:
        if trainer.global_step > self._stepped:
            self._stepped = trainer.global_step
            self._loop.end_step()

    def _end(self, trainer: Any, error: BaseException | None = None) -> None:
        try:
            self._end_step(trainer)
        finally:
            self._loop.end(error)


def _same(old: Any, new: Any) -> bool:
    """Whether two tensors are one value. `old` is still held, so that nothing else can lie where it lies."""
    return old is not None and old.data_ptr() == new.data_ptr()
