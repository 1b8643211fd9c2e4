"""Whether the gradients of a parameter group are cleared between one update and the next."""

from collections.abc import Sequence
from typing import Any

import torch
from torch.optim import Optimizer

from tensometer.capture.sink import Sink
from tensometer.capture.torch_closures import before_update
from tensometer.capture.torch_hooks import Hook


class GradientClearing:
    """Watches a single parameter of each group: the smallest that had a gradient at an update."""

    def __init__(self, optimizer: Optimizer, sink: Sink) -> None:
        self._optimizer, self._sink = optimizer, sink
        self._watches: dict[int, _Watch] = {}
        after: Any = torch.compiler.disable(lambda *_: sink.guard(self._updated))  # type: ignore[no-untyped-call]
        self._handles = [
            before_update(optimizer, lambda: sink.guard(self._about_to_update)),
            optimizer.register_step_post_hook(after),
        ]

    def uncleared(self, group: int) -> "int | torch.Tensor":
        """By the index of a group: how many updates in a row used what the update before had used, and more.

        A tensor of one element where only a CUDA device knows.
        """
        watch = self._watches.get(group)
        return 0 if watch is None else watch.uncleared

    def detach(self) -> None:
        """Remove every hook."""
        for one in (*self._handles, *self._watches.values()):
            one.remove()
        self._handles.clear()
        self._watches.clear()

    def _about_to_update(self) -> None:
        for watch in self._watches.values():
            watch.about_to_update()

    def _updated(self) -> None:
        for index, group in enumerate(self._optimizer.param_groups):
            watch = self._watches.get(index)
            if watch is None or watch.is_idle():
                watch = self._chosen(index, group["params"])
            if watch is not None:
                watch.updated()

    def _chosen(self, index: int, parameters: Sequence[torch.Tensor]) -> "_Watch | None":
        watch = self._watches.get(index)
        smallest = min(filter(_is_watchable, parameters), key=torch.Tensor.numel, default=None)
        if smallest is not None and (watch is None or watch.parameter is not smallest):
            if watch is not None:
                watch.remove()
            watch = self._watches[index] = _Watch(smallest, self._sink)
        return watch


class _Watch:
    """Follows one gradient by the count of changes in place that PyTorch keeps of a tensor.

    If nothing but a backward pass has changed it since the update, it was not cleared. `grad.data.zero_()` is not
    counted, so a gradient that nothing seems to have changed is looked at before the backward pass.
    """

    def __init__(self, parameter: torch.Tensor, sink: Sink) -> None:
        self.parameter = parameter
        self.uncleared: int | torch.Tensor = 0
        self._passes = 0  # backward passes since the last update
        self._place = self._version = -1
        # A tensor of one element where only a CUDA device knows.
        self._kept: bool | torch.Tensor = False
        hooks: Any = parameter
        self._handles = [
            hooks.register_hook(Hook(lambda _: sink.guard(self._about_to_accumulate))),
            hooks.register_post_accumulate_grad_hook(Hook(lambda _: sink.guard(self._accumulated))),
        ]

    def updated(self) -> None:
        """An optimizer has used the gradient."""
        gradient = self.parameter.grad
        self._passes, self._kept = 0, gradient is not None
        if gradient is not None:
            self._place, self._version = gradient.data_ptr(), gradient._version

    def about_to_update(self) -> None:
        """An optimizer is about to use the gradient."""
        if self._passes:
            kept, more = self._kept, self.uncleared + 1
            self.uncleared = more * kept if isinstance(kept, torch.Tensor) else more if kept else 0

    def is_idle(self) -> bool:
        """Whether no backward pass has come since the update before."""
        return not self._passes

    def remove(self) -> None:
        """Remove its hooks."""
        for handle in self._handles:
            handle.remove()

    def _about_to_accumulate(self) -> None:
        gradient = self.parameter.grad
        if (
            self._kept is False
            or gradient is None
            or (gradient.data_ptr(), gradient._version) != (self._place, self._version)
        ):
            self._kept = False
        elif gradient.is_cuda:
            # To look would wait for the device.
            self._kept = gradient.any() & self._kept
        else:
            self._kept = bool(gradient.any())

    def _accumulated(self) -> None:
        gradient = self.parameter.grad
        self._passes += 1
        self._version += 1
        if gradient is None or gradient._version != self._version:
            self._kept = False


def _is_watchable(parameter: torch.Tensor) -> bool:
    gradient = parameter.grad
    return parameter.requires_grad and type(gradient) is torch.Tensor and gradient.layout is torch.strided
