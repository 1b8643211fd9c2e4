"""Whole tensors that CUDA devices copy to the host, without anybody who waits for them."""

from collections.abc import Sequence
from typing import Any

import torch


class HostCopies:
    """Begins at once to copy, behind all that the tensors' devices have to do by now."""

    def __init__(self, tensors: Sequence[torch.Tensor]) -> None:
        self._copies = [_begun(one.detach()) for one in tensors]
        self._events: list[Any] = [_recorded(device) for device in {one.device for one in tensors if one.is_cuda}]

    def ready(self) -> bool:
        """Whether all is copied."""
        return all(event.query() for event in self._events)

    def result(self) -> list[torch.Tensor]:
        """The copies, dense; waits for them."""
        for event in self._events:
            if not event.query():
                event.synchronize()
        return self._copies


def _begun(tensor: torch.Tensor) -> torch.Tensor:
    # Only of whole memory, and to pinned memory, does a device copy while the host goes on. What is still to be negated
    # or conjugated, the host would do to the copy, at once.
    tensor = tensor if tensor.layout == torch.strided else tensor.to_dense()
    tensor = tensor.resolve_conj().resolve_neg().contiguous()
    copy = torch.empty_like(tensor, device="cpu", pin_memory=tensor.is_cuda)
    return copy.copy_(tensor, non_blocking=True)


def _recorded(device: torch.device) -> Any:
    event: Any = torch.cuda.Event()  # type: ignore[no-untyped-call]
    event.record(torch.cuda.current_stream(device))
    return event
