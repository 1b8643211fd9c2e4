"""What an optimizer really changed: weights before and after its step."""

import math
from collections.abc import Sequence

import torch

from tensometer._core import Summary, SummaryTable, summarize_many
from tensometer.capture.sink import Sink
from tensometer.store import TensorKey


class UpdateCapture:
    """Costs a copy of the weights and, for the cosine with the update captured before, another.

    Rows of the collection `updates`: `name`, the difference; and of one element each `name/ratio` (its norm to that of
    the weight before; infinite if either has no such size), `name/changed_fraction` (elements whose difference is not
    zero), and from the second captured update on `name/cosine`.
    """

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        # Buffers are used again: fresh memory costs more than the copy.
        self._copies: dict[torch.Tensor, torch.Tensor] = {}
        self._previous: dict[torch.Tensor, tuple[torch.Tensor, Summary]] = {}
        self._norms: dict[torch.Tensor, float] = {}

    def before(self, keys: Sequence[TensorKey], parameters: Sequence[torch.Tensor]) -> None:
        """Keep the weights."""
        with torch.no_grad():
            for parameter in parameters:
                copy = self._copies.get(parameter)
                if copy is None or not _alike(parameter, copy):
                    self._copies[parameter] = parameter.detach().clone()
                else:
                    copy.copy_(parameter)
        norms = summarize_many([self._copies[parameter] for parameter in parameters]).column("l2")
        self._norms = dict(zip(parameters, norms.tolist(), strict=True))

    def after(self, keys: Sequence[TensorKey], parameters: Sequence[torch.Tensor]) -> None:
        """Record the difference to what before() kept."""
        if list(map(id, parameters)) != list(map(id, self._norms)):
            return
        with torch.no_grad():
            differences = [
                torch.sub(parameter.detach(), self._copies[parameter], out=self._copies[parameter])
                for parameter in parameters
            ]
        table = self._sink.take("updates", keys, differences)
        if table is None or len(table) != len(keys):
            return
        scalars: dict[str, float] = {}
        for key, parameter, update in zip(keys, parameters, table, strict=True):
            scalars[f"{key.name}/ratio"] = _ratio(update, self._norms[parameter])
            scalars[f"{key.name}/changed_fraction"] = 1 - update.zero_fraction
        self._take_cosines(keys, parameters, table, scalars)
        self._sink.take_scalars("updates", scalars)
        # Of two sets of buffers, one holds the last update while the other takes the next weights.
        free = {parameter: buffer for parameter, (buffer, _) in self._previous.items()}
        self._previous = {p: (d, update) for p, d, update in zip(parameters, differences, table, strict=True)}
        self._copies, self._norms = free, {}

    def _take_cosines(
        self,
        keys: Sequence[TensorKey],
        parameters: Sequence[torch.Tensor],
        table: SummaryTable,
        scalars: dict[str, float],
    ) -> None:
        """From products element by element, in the buffers of the updates before."""
        known = [
            (key, update, *self._previous[parameter], self._copies[parameter])
            for key, parameter, update in zip(keys, parameters, table, strict=True)
            if parameter in self._previous and _alike(self._previous[parameter][0], parameter)
        ]
        with torch.no_grad():
            products = [_product(before, now) for _, _, before, _, now in known]
        for (key, update, _, previous, _), product in zip(known, summarize_many(products), strict=True):
            size = update.l2 * previous.l2
            if size > 0 and not product.nonfinite:
                scalars[f"{key.name}/cosine"] = product.sum / size


def _product(before: torch.Tensor, now: torch.Tensor) -> torch.Tensor:
    if before.is_complex():
        return (before.conj() * now).real
    # Those of half precision leave its range.
    return before.float() * now if before.dtype.itemsize < 4 else before.mul_(now)


def _ratio(update: Summary, norm: float) -> float:
    if update.nonfinite or not math.isfinite(norm):
        return math.inf
    return update.l2 / norm if norm > 0 else math.inf if update.l2 > 0 else 0.0


def _alike(a: torch.Tensor, b: torch.Tensor) -> bool:
    return a.shape == b.shape and a.dtype == b.dtype and a.device == b.device
