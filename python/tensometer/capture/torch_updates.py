"""What an optimizer really changed: weights before and after its step."""

from collections.abc import Sequence
from functools import partial
from typing import Any, overload

import numpy as np
import torch

from tensometer._core import SummaryTable, UpdateTracker
from tensometer.capture.batches import on_device
from tensometer.capture.sink import Sink
from tensometer.capture.torch_parameters import Parameter
from tensometer.capture.torch_updates_on_device import UpdatesOnDevice
from tensometer.store import TensorKey

# float64 differences stay float64; the others are computed, and kept, in float32.
_WIDE = (torch.float64, torch.complex128)


class UpdateCapture:
    """What all steps of an optimizer within a step of the monitor changed together.

    Costs a copy of the weights, and another for the cosine with the update captured before.

    Rows of the collection `updates`: `name`, the difference; and of one element each `name/ratio` (its norm to that of
    the weight before; infinite if either has no such size), `name/changed_fraction` (elements whose value is another),
    and from the second captured update on `name/cosine`.
    """

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._tracker = UpdateTracker()
        self._on_device: UpdatesOnDevice | None = None
        self._parameters: list[Parameter] = []
        self._keys: list[TensorKey] = []
        self._waiting = False
        self._phase = ""

    def before(self, parameters: Sequence[Parameter]) -> None:
        """Keep the weights of those that are trained."""
        self._waiting = False
        parts = [(one, *_part(one)) for one in parameters if one.tensor.requires_grad]
        kept = [part for part in parts if self._sink.takes(part[1])]
        names = [key.name for _, key, _ in kept]
        keys, tensors = [key for _, key, _ in kept], [tensor for _, _, tensor in kept]
        if names != [key.name for key in self._keys]:
            self._tracker = UpdateTracker()
        if not any(map(on_device, tensors)):
            self._on_device = None
        elif self._on_device is None or keys != self._keys:
            self._on_device = UpdatesOnDevice(tensors)
        self._parameters, self._keys = [one for one, _, _ in kept], keys
        if self._on_device is None:
            self._tracker.before(tensors, threads=self._sink.threads)
        else:
            self._on_device.before(tensors)
        self._waiting = True
        self._phase = self._sink.phase_of(training=True)

    def after(self) -> None:
        """Record the difference to what before() kept, if it did.

        ValueError if a parameter is another tensor by now: of another dtype, shape, or order in memory.
        """
        if not self._waiting:
            return
        self._waiting = False
        parts = [_part(one) for one in self._parameters]
        others = [old.name for (key, _), old in zip(parts, self._keys, strict=True) if key != old]
        if others:
            raise ValueError(f"updates: {', '.join(others)} changed dtype or shape after the optimizer's step")
        keys, phase = self._keys, self._phase
        tensors = [tensor for _, tensor in parts]
        if self._on_device is not None:
            self._sink.take_compared(
                keys, self._on_device.differences, phase, partial(self._on_device.after, tensors), self._tell
            )
            return
        columns = dict[str, Any]()

        def summarize(_: Sequence[Any], **settings: Any) -> SummaryTable:
            table, found = self._tracker.after(tensors, **settings)
            columns.update(found)
            return table

        differences = _Differences(self._tracker, len(keys))
        if self._sink.take(keys, differences, phase, summarize=summarize):
            self._tell(keys, columns, phase)

    def _tell(self, keys: Sequence[TensorKey], columns: dict[str, Any], phase: str) -> None:
        for suffix in ("ratio", "changed_fraction", "cosine"):
            known = ~np.isnan(columns[suffix])
            told = keys if known.all() else [key for key, there in zip(keys, known.tolist(), strict=True) if there]
            self._sink.take_derived(told, suffix, columns[suffix][known].tolist(), phase)


def _part(parameter: Parameter) -> tuple[TensorKey, torch.Tensor]:
    """A parameter as the core tracks it, complex ones as real and imaginary parts; the key is of the difference."""
    tensor = parameter.tensor.detach()
    real = torch.view_as_real(tensor) if tensor.is_complex() else tensor
    return parameter.part("updates", real, "float64" if tensor.dtype in _WIDE else "float32")


class _Differences(Sequence["np.ndarray[Any, Any]"]):
    """The last differences, copied out of the core when someone wants a whole one."""

    def __init__(self, tracker: UpdateTracker, size: int) -> None:
        self._tracker, self._size = tracker, size

    def __len__(self) -> int:
        return self._size

    @overload
    def __getitem__(self, index: int) -> "np.ndarray[Any, Any]": ...
    @overload
    def __getitem__(self, index: slice) -> "Sequence[np.ndarray[Any, Any]]": ...
    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return [self[at] for at in range(*index.indices(self._size))]
        return self._tracker.difference(range(self._size)[index])
