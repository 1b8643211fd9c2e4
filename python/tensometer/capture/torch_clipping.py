"""The norm of a model's gradients before they are clipped: as the last backward pass of a step left them."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from tensometer._core import norm
from tensometer.capture.sink import Sink
from tensometer.capture.torch_distributed import local_part
from tensometer.capture.torch_hooks import Hook
from tensometer.capture.torch_structure import Structure


class UnclippedNorm:
    """Takes one more pass over the gradients for each backward pass of a step that is captured."""

    def __init__(self, model: nn.Module, sink: Sink) -> None:
        self._model, self._sink = model, sink
        self._handles: list[Any] = []
        self._structure: Structure | None = None
        self._queued = self._used = False
        self._measured: list[float] = []

    def begin_step(self, *, watch: bool) -> None:
        """Watch the backward passes of a step, or let them be."""
        self._measured = []
        self._used = False
        self._queued = False  # by a backward pass that raised it was never taken back
        if not watch or self._structure is None or not self._structure.is_current():
            self.detach()
        if watch and self._structure is None:
            self._structure = Structure(self._model, ())
            for parameter in self._model.parameters():
                if parameter.requires_grad:
                    self._handles.append(_on_gradient(parameter, Hook(self._accumulated)))

    def reader(self) -> Callable[[], float | None]:
        """What tells the norm of the step in progress, when all that was looked at is there; None if there is none."""
        measured = self._measured
        return lambda: measured[-1] if measured else None

    def before_update(self) -> None:
        """The gradients are being used: what later backward passes of the step add is of no concern."""
        self._used = True

    def detach(self) -> None:
        """Remove every hook."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        self._structure = None

    def _accumulated(self, _: torch.Tensor) -> None:
        if not self._queued and not self._used:
            self._queued = True
            # Queued by one that was queued: behind those that average gradients over processes.
            queue: Any = torch.autograd.Variable._execution_engine
            queue.queue_callback(lambda: queue.queue_callback(self._backward_ended))

    def _backward_ended(self) -> None:
        self._queued = False
        self._sink.guard(self._measure)

    def _measure(self) -> None:
        gradients = [local_part(one.grad)[0] for one in self._model.parameters() if one.grad is not None]
        measured = self._measured
        self._sink.reduce(gradients, lambda table: measured.append(norm([table])))
        self._sink.submit()  # clipping changes them in place


def _on_gradient(parameter: nn.Parameter, hook: Hook) -> Any:
    return parameter.register_post_accumulate_grad_hook(hook)  # type: ignore[no-untyped-call]
