"""Weights before and after an optimizer's step on CUDA devices."""

from collections.abc import Sequence

import torch

from tensometer._core import DeviceUpdateTracker, PendingUpdates


class UpdatesOnDevice:
    """As UpdateTracker of the core, but nothing waits for the device: the copies lie there too.

    differences: the last ones, which the device overwrites when it compares.
    """

    def __init__(self, tensors: Sequence[torch.Tensor]) -> None:
        self._tracker = DeviceUpdateTracker()
        self._old = [torch.empty_like(one) for one in tensors]
        self._last = [
            torch.zeros_like(
                one,
                dtype=torch.float64 if one.dtype == torch.float64 else torch.float32,
                memory_format=torch.contiguous_format,
            )
            for one in tensors
        ]
        # In the order in which the tensors lie in memory.
        self.differences = [
            one.as_strided(old.shape, old.stride()) for one, old in zip(self._last, self._old, strict=True)
        ]

    def before(self, tensors: Sequence[torch.Tensor]) -> None:
        """Keep the weights."""
        with torch.no_grad():
            torch._foreach_copy_(self._old, list(tensors))

    def after(
        self, tensors: Sequence[torch.Tensor], *, histogram: bool | str, resolution: int
    ) -> PendingUpdates | None:
        """What is computed of them; None if there is no free slot."""
        return self._tracker.try_compare(
            self._old,
            tensors,
            self._last,
            histogram=histogram,  # type: ignore[arg-type]
            resolution=resolution,
        )
