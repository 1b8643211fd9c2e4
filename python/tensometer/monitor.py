"""The monitor of a training run: decides what is captured when, and never lets the run feel it."""

import os
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from tensometer._core import SummaryTable, summarize_many
from tensometer.capture.config import CollectionConfig, MonitorConfig
from tensometer.store import Record, RunWriter, TensorKey

if TYPE_CHECKING:
    from torch.nn import Module
    from torch.optim import Optimizer

    from tensometer.capture.torch_capture import TorchCapture


class Monitor:
    """Captures the summaries of a training run into a run directory or URL.

    config: a MonitorConfig, or plain values of one; settings of MonitorConfig given by keyword (every=10) win over it.
    rank, world_size: by default those of RANK and WORLD_SIZE, or one process. strict: raise errors of capture instead
    of warning once. A run that is there is continued behind its last step. TypeError or ValueError for wrong settings;
    later no error is raised.
    """

    def __init__(
        self,
        url: str | os.PathLike[str],
        *,
        config: MonitorConfig | Mapping[str, Any] | None = None,
        rank: int | None = None,
        world_size: int | None = None,
        strict: bool = False,
        **settings: Any,
    ) -> None:
        given = config.to_dict() if isinstance(config, MonitorConfig) else dict(config or {})
        self.config = MonitorConfig.from_dict(given | settings)
        self._rank = int(os.environ.get("RANK", "0")) if rank is None else rank
        size = int(os.environ.get("WORLD_SIZE", "1")) if world_size is None else world_size
        self._strict = strict
        self._writer = RunWriter(
            url,
            rank=self._rank,
            world_size=max(size, self._rank + 1) if world_size is None else size,
            config=self.config.to_dict(),
            flush_seconds=self.config.flush_seconds,
        )
        self._captures: list[TorchCapture] = []
        self._phase = "train"
        self._parts: list[tuple[str, list[TensorKey], SummaryTable]] = []
        self._step = self._writer.last_step() + 1
        self._nanoseconds = 0
        self._spent = 0
        self._captured_steps = 0
        self._problem = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def attach(self, model: "Module", *, optimizer: "Optimizer | None" = None, name: str = "") -> None:
        """Capture a model's parameters, gradients and, if configured, activations. name: a prefix, for several models.

        With an optimizer, gradients are those that it is about to use; without, those at the end of the step.
        """
        from tensometer.capture.torch_capture import TorchCapture

        self._captures.append(
            TorchCapture(
                model,
                optimizer,
                prefix=f"{name}." if name else "",
                wants=self._wants,
                take=self._take,
                guard=self._guard,
                activations="activations" in self.config.collections,
            )
        )

    def record(self, name: str, tensor: object, *, collection: str = "custom") -> None:
        """Capture any tensor that the engine reads, if this step is captured."""
        if self._wants(collection):
            self._guard(lambda: self._record(name, tensor, collection))

    def step(self, **scalars: object) -> None:
        """Close the step. By keyword: losses ("loss" is in the name) and metrics, numbers or tensors of one element."""
        self._guard(lambda: self._end_step(scalars))
        self._parts.clear()
        self._step += 1

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Mark what is captured inside as of another phase: eval, or any name."""
        before, self._phase = self._phase, name
        try:
            yield
        finally:
            self._phase = before

    @property
    def current_step(self) -> int:
        """Number of the step in progress."""
        return self._step

    @property
    def overhead(self) -> float:
        """Seconds of the caller's time that a captured step cost so far, on average; 0 before the first."""
        return self._spent / 1e9 / self._captured_steps if self._captured_steps else 0.0

    @property
    def dropped(self) -> int:
        """Summaries that could not be stored."""
        return self._writer.dropped

    def flush(self, timeout: float = 30.0) -> bool:
        """Wait until everything captured so far can be read; False if it cannot after `timeout` seconds."""
        return self._writer.flush(timeout)

    def close(self) -> None:
        """Remove all hooks and store what is left. The monitor captures nothing afterwards."""
        for capture in self._captures:
            capture.detach()
        self._captures.clear()
        self._writer.close()

    def _wants(self, collection: str) -> bool:
        return self.config.samples(self._step, collection)

    def _guard(self, work: Callable[[], None]) -> None:
        begin = time.perf_counter_ns()
        try:
            work()
        # Whatever goes wrong in capture, training goes on.
        except Exception as error:
            if self._strict:
                raise
            if not self._problem:
                self._problem = f"{type(error).__name__}: {error}"
                warnings.warn(
                    f"tensometer: step {self._step} could not be captured: {self._problem}; training goes on",
                    RuntimeWarning,
                    stacklevel=4,
                )
        finally:
            self._nanoseconds += time.perf_counter_ns() - begin

    def _take(self, collection: str, keys: list[TensorKey], tensors: list[Any]) -> None:
        chosen: CollectionConfig = self.config.collections[collection]
        kept = [at for at, key in enumerate(keys) if chosen.takes(key.name)]
        if not kept:
            return
        table = summarize_many(
            [tensors[at] for at in kept],
            histogram=chosen.histogram,  # type: ignore[arg-type]
            resolution=self.config.resolution,
            threads=self.config.threads,
        )
        self._parts.append((self._phase, [keys[at] for at in kept], table))

    def _record(self, name: str, tensor: object, collection: str) -> None:
        summary = summarize_many([tensor])[0]
        self._take(collection, [TensorKey(name, collection, summary.dtype, summary.shape)], [tensor])

    def _end_step(self, scalars: Mapping[str, object]) -> None:
        if not self.config.samples_any(self._step):
            return
        for capture in self._captures:
            capture.end_step()
        for collection, chosen in (("losses", True), ("metrics", False)):
            values = {name: value for name, value in scalars.items() if ("loss" in name) is chosen}
            if values and self._wants(collection):
                keys = [TensorKey(name, collection, "float64", ()) for name in values]
                self._take(collection, keys, [np.float64(_number(value)) for value in values.values()])
        now = time.time()
        for phase, names, table in self._parts:
            self._writer.submit(Record(self._step, now, phase, names, table))
        self._spent += self._nanoseconds
        self._nanoseconds = 0
        self._captured_steps += 1


def _number(value: Any) -> float:
    return float(value.item() if hasattr(value, "item") else value)
