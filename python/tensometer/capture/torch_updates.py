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
        self._copies: dict[str, torch.Tensor] = {}
        self._previous: dict[str, tuple[torch.Tensor, Summary]] = {}
        self._norms: dict[str, float] = {}

    def before(self, keys: Sequence[TensorKey], parameters: Sequence[torch.Tensor]) -> None:
        """Keep the weights."""
        for key, parameter in zip(keys, parameters, strict=True):
            copy = self._copies.get(key.name)
            if copy is None or not _alike(parameter, copy):
                self._copies[key.name] = parameter.clone()
            else:
                copy.copy_(parameter)
        norms = summarize_many([self._copies[key.name] for key in keys]).column("l2").tolist()
        self._norms = {key.name: norm for key, norm in zip(keys, norms, strict=True)}

    def after(self, keys: Sequence[TensorKey], parameters: Sequence[torch.Tensor]) -> None:
        """Record the difference to what before() kept."""
        if [key.name for key in keys] != list(self._norms):
            return
        copies = [self._copies[key.name] for key in keys]
        differences = [torch.sub(now, then, out=then) for now, then in zip(parameters, copies, strict=True)]
        table = self._sink.take("updates", keys, differences)
        if table is None or len(table) != len(keys):
            return
        scalars: dict[str, float] = {}
        for key, update in zip(keys, table, strict=True):
            scalars[f"{key.name}/ratio"] = _ratio(update, self._norms[key.name])
            scalars[f"{key.name}/changed_fraction"] = 1 - update.zero_fraction
        self._take_cosines(keys, differences, table, scalars)
        self._sink.take_scalars("updates", scalars)
        # Of two sets of buffers, one holds the last update while the other takes the next weights.
        self._copies = {name: buffer for name, (buffer, _) in self._previous.items()}
        triples = zip(keys, differences, table, strict=True)
        self._previous = {key.name: (difference, update) for key, difference, update in triples}
        self._norms = {}

    def _take_cosines(
        self,
        keys: Sequence[TensorKey],
        differences: Sequence[torch.Tensor],
        table: SummaryTable,
        scalars: dict[str, float],
    ) -> None:
        """From products element by element, in the buffers of the updates before."""
        names, products, sizes = [], [], []
        for key, now, update in zip(keys, differences, table, strict=True):
            before, previous = self._previous.get(key.name, (None, None))
            if before is not None and previous is not None and _alike(before, now):
                names.append(key.name)
                products.append(_product(before, now))
                sizes.append(update.l2 * previous.l2)
        for name, product, size in zip(names, summarize_many(products), sizes, strict=True):
            if size > 0 and not product.nonfinite:
                scalars[f"{name}/cosine"] = product.sum / size


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
