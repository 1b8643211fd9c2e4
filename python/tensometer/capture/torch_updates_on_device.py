"""Weights before and after an optimizer's step on CUDA devices."""

from collections.abc import Sequence

import torch

from tensometer._core import DeviceUpdateTracker
from tensometer.capture.sink import Sink, TellUpdates
from tensometer.store import TensorKey


class UpdatesOnDevice:
    """As UpdateTracker of the core, but nothing waits for the devices: the copies lie there too."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._keys: Sequence[TensorKey] = ()
        self._devices: list[torch.device] = []
        self._old: list[torch.Tensor] = []

    def before(self, keys: Sequence[TensorKey], tensors: Sequence[torch.Tensor]) -> None:
        """Keep the weights."""
        devices = [one.device for one in tensors]
        if keys != self._keys or devices != self._devices:
            self._keys, self._devices = (), []  # until there is memory for them
            self._make_room(tensors)
            self._keys, self._devices = keys, devices
        if tensors:
            with torch.no_grad():
                torch._foreach_copy_(self._old, list(tensors))

    def _make_room(self, tensors: Sequence[torch.Tensor]) -> None:
        self._tracker = DeviceUpdateTracker()
        self._old = [torch.empty_like(one) for one in tensors]
        # The last differences, which the device overwrites when it compares.
        self._last = [
            torch.zeros_like(
                one,
                dtype=torch.float64 if one.dtype == torch.float64 else torch.float32,
                memory_format=torch.contiguous_format,
            )
            for one in tensors
        ]

    def after(self, tensors: Sequence[torch.Tensor], phase: str, tell: TellUpdates) -> None:
        """Record the difference to what before() kept."""

        def submit(*, histogram: bool | str, resolution: int) -> object:
            return self._tracker.try_compare(
                self._old,
                tensors,
                self._last,
                histogram=histogram,  # type: ignore[arg-type]
                resolution=resolution,
            )

        # In the order in which the tensors lie in memory.
        differences = [one.as_strided(old.shape, old.stride()) for one, old in zip(self._last, self._old, strict=True)]
        self._sink.take_compared(self._keys, differences, phase, submit, tell)
