"""The monitor of a training run: what people attach to their loop."""

import atexit
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from tensometer._core import summarize_many
from tensometer.capture.collector import Collector, number
from tensometer.capture.config import MonitorConfig
from tensometer.capture.config_file import ENVIRONMENT, ConfigFile
from tensometer.capture.nonfinite import Origin
from tensometer.capture.recorder import LastWords, unhandled_exception
from tensometer.store import RunWriter, TensorKey

if TYPE_CHECKING:
    from torch.amp import GradScaler
    from torch.nn import Module
    from torch.optim import Optimizer

    from tensometer.capture.torch_capture import TorchCapture


class Monitor:
    """Captures the summaries of a training run into a run directory or URL.

    config: a MonitorConfig, plain values of one, or the path of a TOML file of them, by default the one that the
    environment variable TENSOMETER_CONFIG names; when the file is edited, the next step follows. Settings of
    MonitorConfig given by keyword (every=10) win over it. rank, world_size: by default those of RANK and WORLD_SIZE, or
    one process. strict: raise errors of capture instead of warning once. A run that is there is continued behind its
    last step. TypeError, ValueError or OSError for wrong settings; later no error is raised.
    """

    def __init__(
        self,
        url: str | os.PathLike[str],
        *,
        config: MonitorConfig | Mapping[str, Any] | str | os.PathLike[str] | None = None,
        rank: int | None = None,
        world_size: int | None = None,
        strict: bool = False,
        **settings: Any,
    ) -> None:
        if config is None:
            config = os.environ.get(ENVIRONMENT) or {}
        self._settings = settings
        self._file = ConfigFile(config) if isinstance(config, str | os.PathLike) else None
        if self._file is not None:
            config = self._file.read()
        chosen = self._with_settings(config)  # type: ignore[arg-type]
        own_rank = _from_environment("RANK", 0) if rank is None else rank
        size = max(_from_environment("WORLD_SIZE", 1), own_rank + 1) if world_size is None else world_size
        self._writer = RunWriter(
            url, rank=own_rank, world_size=size, config=chosen.to_dict(), flush_seconds=chosen.flush_seconds
        )
        self._collector = Collector(self._writer, chosen, strict=strict)
        self._origin = Origin(self._collector)
        self._captures: list[TorchCapture] = []
        self._last_words = LastWords(self._speak) if chosen.recorder else None
        atexit.register(self._at_exit)
        self._begin()

    def _with_settings(self, config: MonitorConfig | Mapping[str, Any]) -> MonitorConfig:
        if not isinstance(config, MonitorConfig | Mapping):
            raise TypeError(f"config: {config!r} is neither a MonitorConfig, a mapping, nor the path of a file")
        given = config.to_dict() if isinstance(config, MonitorConfig) else config
        return MonitorConfig.from_dict({**given, **self._settings})

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._close(error)

    def attach(
        self,
        model: "Module",
        *,
        optimizer: "Optimizer | Sequence[Optimizer] | None" = None,
        loss: "Module | None" = None,
        scaler: "GradScaler | None" = None,
        name: str = "",
    ) -> None:
        """Capture a model: parameters, gradients, inputs, and what else the configuration asks for.

        optimizer: one or several; gradients are then those that it is about to use, otherwise those at the end of the
        step. loss: a module that is called with predictions and labels. scaler: of automatic mixed precision, whose
        scale and skipped steps are recorded. name: a prefix, for several models. TypeError for other objects.
        """
        from tensometer.capture.torch_capture import TorchCapture

        capture = TorchCapture(
            model,
            optimizer,
            loss=loss,
            scaler=scaler,
            prefix=f"{name}." if name else "",
            sink=self._collector,
            origin=self._origin,
            every_pass=self.config.micro_batches,
            clipping=self.config.clipping,
        )
        self._captures.append(capture)
        self._collector.guard(capture.begin_step)

    def detach(self) -> None:
        """Remove all hooks from all models, to attach others."""
        for capture in self._captures:
            capture.detach()
        self._captures.clear()

    def record(self, name: str, tensor: object, *, collection: str = "custom") -> None:
        """Capture any tensor that the engine reads, if this step is captured."""
        if self._collector.wants(collection):
            self._collector.guard(lambda: self._record(name, tensor, collection))

    def _record(self, name: str, tensor: object, collection: str) -> None:
        summary = summarize_many([tensor])[0]
        self._collector.take(collection, [TensorKey(name, collection, summary.dtype, summary.shape)], [tensor])

    def record_booster(self, booster: object, evals: "Sequence[tuple[Any, str]]" = ()) -> None:
        """Capture the last round of an XGBoost booster; see tensometer.capture.xgboost_booster.record_booster."""
        from tensometer.capture.xgboost_booster import record_booster

        record_booster(self, booster, evals)

    def step(self, /, **scalars: object) -> None:
        """Close the step. By keyword: losses ("loss" is in the name) and metrics, numbers or tensors of one element."""
        if self._collector.captures:
            self._collector.guard(lambda: self._end(scalars))
        self._collector.next_step()
        self._begin()

    def _end(self, scalars: Mapping[str, object]) -> None:
        try:
            for collection, chosen in (("losses", True), ("metrics", False)):
                values = {name: value for name, value in scalars.items() if ("loss" in name) is chosen}
                table = self._collector.take_scalars(collection, values)
                if chosen and table is not None and table.column("nonfinite").any():
                    losses = {name: str(number(name, value)) for name, value in values.items()}
                    self._origin.report("loss", {"losses": losses})
            for capture in self._captures:
                capture.end_step()
        finally:
            self._origin.end_step()
            self._collector.end_step()

    def _begin(self) -> None:
        self._collector.guard(self._follow_file)
        self._collector.begin_step()
        for capture in self._captures:
            self._collector.guard(capture.begin_step)

    def _follow_file(self) -> None:
        if self._file is None or not self._file.changed():
            return
        config = self._with_settings(self._file.read())
        self._collector.configure(config)
        self._collector.event("config", config.to_dict())

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Mark what is captured inside as of another phase: eval, or any name.

        Without it, what a model in evaluation mode computes is of the phase "eval", everything else of "train".
        """
        before, self._collector.named_phase = self._collector.named_phase, name
        try:
            yield
        finally:
            self._collector.named_phase = before

    @property
    def config(self) -> MonitorConfig:
        """The settings in force."""
        return self._collector.config

    def resume_at(self, step: int) -> None:
        """Number the step in progress, for a loop that goes on from a checkpoint. A step that is past: nothing."""
        if step > self.current_step:
            self._collector.step = step
            self._begin()

    @property
    def strict(self) -> bool:
        """Whether errors of capture are raised."""
        return self._collector.strict

    @property
    def current_step(self) -> int:
        """Number of the step in progress."""
        return self._collector.step

    @property
    def overhead(self) -> float:
        """Seconds of the caller's time that a captured step cost so far, on average; 0 before the first."""
        return self._collector.overhead

    @property
    def dropped(self) -> int:
        """Summaries that could not be stored."""
        return self._writer.dropped

    def dump(self, reason: str = "request") -> None:
        """Store the steps that the flight recorder holds, and say in the run why."""
        self._collector.guard(lambda: self._collector.dump(reason))

    def flush(self, timeout: float = 30.0) -> bool:
        """Wait until everything captured so far can be read; False if it cannot after `timeout` seconds."""
        return self._writer.flush(timeout)

    def close(self) -> None:
        """Remove all hooks and store what is left. The monitor captures nothing afterwards."""
        self._close(None)

    def _close(self, error: BaseException | None) -> None:
        atexit.unregister(self._at_exit)
        if error is not None and self.config.recorder:
            self.dump(f"{type(error).__name__}: {error}")
        if self._last_words is not None:
            self._last_words.close()
        self.detach()
        self._writer.close(self.config.close_seconds)

    def _at_exit(self) -> None:
        self._close(unhandled_exception())

    def _speak(self, reason: str) -> None:
        self.dump(reason)
        self._writer.close(5.0)


def _from_environment(name: str, default: int) -> int:
    text = os.environ.get(name, "")
    if text and not text.isdecimal():
        warnings.warn(f"tensometer: {name}={text!r} is no number, and is ignored", RuntimeWarning, stacklevel=4)
        return default
    return int(text or default)
