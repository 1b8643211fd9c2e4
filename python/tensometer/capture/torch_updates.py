"""What an optimizer really changed: weights before and after its step."""

from collections.abc import Sequence

import torch

from tensometer._core import compare
from tensometer.capture.sink import Sink
from tensometer.store import TensorKey


class UpdateCapture:
    """Costs a copy of the weights and, for the cosine with the update captured before, another.

    Rows of the collection `updates`: `name`, the difference; and of one element each `name/ratio` (its norm to that of
    the weight before), `name/changed_fraction`, and from the second captured update on `name/cosine`.
    """

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._copies: dict[torch.Tensor, torch.Tensor] = {}
        self._previous: dict[torch.Tensor, torch.Tensor] = {}
        self._pending: list[torch.Tensor] = []

    def before(self, keys: Sequence[TensorKey], parameters: Sequence[torch.Tensor]) -> None:
        """Keep the weights. Buffers are used again: fresh memory costs more than the copy."""
        wanted = dict(zip(parameters, keys, strict=True))
        self._copies = {one: copy for one, copy in self._copies.items() if one in wanted and _alike(one, copy)}
        with torch.no_grad():
            for parameter in parameters:
                copy = self._copies.get(parameter)
                if copy is None:
                    self._copies[parameter] = parameter.detach().clone()
                else:
                    copy.copy_(parameter)
        self._pending = list(parameters)

    def after(self, keys: Sequence[TensorKey], parameters: Sequence[torch.Tensor]) -> None:
        """Record the difference to what before() kept."""
        if [id(one) for one in parameters] != [id(one) for one in self._pending]:
            return
        self._pending = []
        differences = []
        scalars: dict[str, float] = {}
        for key, parameter in zip(keys, parameters, strict=True):
            copy = self._copies[parameter]
            change = compare(_real(copy), _real(parameter.detach()))
            with torch.no_grad():
                torch.sub(parameter.detach(), copy, out=copy)
            scalars[f"{key.name}/ratio"] = change.relative_update
            scalars[f"{key.name}/changed_fraction"] = change.changed_fraction
            previous = self._previous.get(parameter)
            if previous is not None and _alike(previous, copy):
                scalars[f"{key.name}/cosine"] = compare(_real(previous), _real(copy)).cosine
            differences.append(copy)
        self._sink.take("updates", keys, differences)
        self._sink.take_scalars("updates", scalars)
        # Of two sets of buffers, one holds the last update while the other takes the next weights.
        self._copies, self._previous = self._previous, dict(zip(parameters, differences, strict=True))


def _real(tensor: torch.Tensor) -> torch.Tensor:
    return torch.view_as_real(tensor) if tensor.is_complex() else tensor


def _alike(a: torch.Tensor, b: torch.Tensor) -> bool:
    return a.shape == b.shape and a.dtype == b.dtype and a.device == b.device
