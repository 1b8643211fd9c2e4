"""What an optimizer really changed: weights before and after its step."""

from collections.abc import Sequence
from typing import Any, overload

import numpy as np
import torch

from tensometer._core import SummaryTable, UpdateTracker
from tensometer.capture.batches import on_device
from tensometer.capture.sink import Sink, TellUpdates
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
        self._on_host, self._on_device = _UpdatesOnHost(sink), UpdatesOnDevice(sink)
        self._here: list[Parameter] = []
        self._there: list[Parameter] = []
        self._keys: list[TensorKey] = []
        self._waiting = False
        self._phase = ""

    def before(self, parameters: Sequence[Parameter]) -> None:
        """Keep the weights of those that are trained."""
        self._waiting = False
        parts = [(one, *_part(one)) for one in parameters if one.tensor.requires_grad]
        kept = [part for part in parts if self._sink.takes(part[1])]
        there = [part for part in kept if on_device(part[2])]
        here = [part for part in kept if not on_device(part[2])] if there else kept
        self._on_host.before([key for _, key, _ in here], [tensor for _, _, tensor in here])
        self._here, self._there = [one for one, _, _ in here], []
        self._keys = [key for _, key, _ in here]
        self._waiting = True
        self._phase = self._sink.phase_of(training=True)
        # A device may have no memory for them, which is no matter of the host's.
        self._on_device.before([key for _, key, _ in there], [tensor for _, _, tensor in there])
        self._there = [one for one, _, _ in there]
        self._keys += [key for _, key, _ in there]

    def after(self) -> None:
        """Record the difference to what before() kept, if it did.

        ValueError if a parameter is another tensor by now: of another dtype, shape, or order in memory.
        """
        if not self._waiting:
            return
        self._waiting = False
        parts = [_part(one) for one in (*self._here, *self._there)]
        others = [old.name for (key, _), old in zip(parts, self._keys, strict=True) if key != old]
        if others:
            raise ValueError(f"updates: {', '.join(others)} changed dtype or shape after the optimizer's step")
        tensors, phase, size = [tensor for _, tensor in parts], self._phase, len(self._here)
        if self._here or not self._there:
            self._on_host.after(tensors[:size], phase, self._tell)
        if self._there:
            self._on_device.after(tensors[size:], phase, self._tell)

    def _tell(self, keys: Sequence[TensorKey], columns: dict[str, Any], phase: str) -> None:
        for suffix in ("ratio", "changed_fraction", "cosine"):
            known = ~np.isnan(columns[suffix])
            told = keys if known.all() else [key for key, there in zip(keys, known.tolist(), strict=True) if there]
            self._sink.take_derived(told, suffix, columns[suffix][known].tolist(), phase)


class _UpdatesOnHost:
    """Weights before and after an optimizer's step in the host's memory."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._tracker = UpdateTracker()
        self._keys: Sequence[TensorKey] = ()

    def before(self, keys: Sequence[TensorKey], tensors: Sequence[torch.Tensor]) -> None:
        """Keep the weights."""
        if [key.name for key in keys] != [key.name for key in self._keys]:
            self._tracker = UpdateTracker()
        self._keys = keys
        self._tracker.before(tensors, threads=self._sink.threads)

    def after(self, tensors: Sequence[torch.Tensor], phase: str, tell: TellUpdates) -> None:
        """Record the difference to what before() kept."""
        columns = dict[str, Any]()

        def summarize(_: Sequence[Any], **settings: Any) -> SummaryTable:
            table, found = self._tracker.after(tensors, **settings)
            columns.update(found)
            return table

        differences = _Differences(self._tracker, len(tensors))
        if self._sink.take(self._keys, differences, phase, summarize=summarize):
            tell(self._keys, columns, phase)


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
