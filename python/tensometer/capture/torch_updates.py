"""What an optimizer really changed: weights before and after its step."""

import math
from collections.abc import Sequence
from typing import Any, overload

import numpy as np
import torch

from tensometer._core import SummaryTable, UpdateTracker
from tensometer.capture.sink import Sink
from tensometer.store import TensorKey

# float64 differences stay float64; the others are computed, and kept, in float32.
_WIDE = (torch.float64, torch.complex128)


def update_of(tensor: torch.Tensor) -> tuple[torch.Tensor, str]:
    """The tensor as the core tracks it, complex ones as real and imaginary parts; the dtype of its differences."""
    real = torch.view_as_real(tensor) if tensor.is_complex() else tensor
    return real, "float64" if tensor.dtype in _WIDE else "float32"


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
        self._names: list[str] = []
        self._waiting = False
        self._phase = ""

    @property
    def waiting(self) -> bool:
        """Whether there is a before() to which after() belongs."""
        return self._waiting

    def before(self, keys: Sequence[TensorKey], parameters: Sequence[torch.Tensor]) -> None:
        """Keep the weights."""
        names = [key.name for key in keys]
        if names != self._names:
            self._tracker, self._names = UpdateTracker(), names
        self._waiting = False
        self._tracker.before(parameters, threads=self._sink.threads)
        self._waiting = True
        self._phase = self._sink.phase_of(training=True)

    def after(self, keys: Sequence[TensorKey], parameters: Sequence[torch.Tensor]) -> None:
        """Record the difference to what before() kept."""
        if not self._waiting or [key.name for key in keys] != self._names:
            return
        self._waiting = False
        columns: dict[str, Any] = {}

        def summarize(_: Sequence[Any], **settings: Any) -> SummaryTable:
            table, found = self._tracker.after(parameters, **settings)
            columns.update(found)
            return table

        differences = _Differences(self._tracker, len(keys))
        table = self._sink.take("updates", keys, differences, self._phase, summarize=summarize)
        if table is None or len(table) != len(keys):
            return
        scalars: dict[str, float] = {}
        rows = zip(
            self._names, *(columns[name].tolist() for name in ("ratio", "changed_fraction", "cosine")), strict=True
        )
        for name, ratio, changed, cosine in rows:
            scalars[f"{name}/ratio"] = ratio
            scalars[f"{name}/changed_fraction"] = changed
            if not math.isnan(cosine):
                scalars[f"{name}/cosine"] = cosine
        self._sink.take_scalars("updates", scalars, self._phase)


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
