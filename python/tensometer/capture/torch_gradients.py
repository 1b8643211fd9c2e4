"""Gradients as they are used, their norm, and which are missing."""

from collections.abc import Sequence

import torch

from tensometer._core import SummaryTable, norm
from tensometer.capture.nonfinite import Origin
from tensometer.capture.sink import Sink, Taken
from tensometer.capture.torch_parameters import Parameter
from tensometer.capture.torch_tensors import not_finite


class GradientCapture:
    """The gradients of a step, which come in parts: each optimizer's when it steps."""

    def __init__(self, sink: Sink, origin: Origin) -> None:
        self._sink, self._origin = sink, origin
        self._tables: list[SummaryTable] = []
        self._left_out = 0
        self._missing: list[str] = []
        self._told: list[str] = []

    def begin_step(self) -> None:
        """Forget the gradients of the step before."""
        self._tables, self._left_out = [], 0

    def take(self, parameters: Sequence[Parameter], scale: torch.Tensor | None = None) -> list[Taken]:
        """Record the gradients that there are. scale: what to divide them by."""
        if not self._sink.wants("gradients"):
            return []
        self._note_missing(parameters)
        parts = [
            one.part("gradients", one.tensor.grad if scale is None else one.tensor.grad / scale)
            for one in parameters
            if one.tensor.grad is not None
        ]
        self._left_out += len(parts)
        taken = self._sink.take([key for key, _ in parts], [gradient for _, gradient in parts])
        self._left_out -= sum(len(table) for _, table in taken)
        self._tables += [table for _, table in taken]
        broken = not_finite(taken)
        if broken:
            # Backward runs from the last layer to the first: the last in the model's order was reached first.
            self._origin.report("gradient", {"parameters": [key.name for key in reversed(broken)]})
        return taken

    @property
    def norm(self) -> float | None:
        """The norm of all that were taken together; None if there were none, or some that the collection left out."""
        return norm(self._tables) if self._tables and not self._left_out else None

    def end_step(self, parameters: Sequence[Parameter]) -> None:
        """Tell which trained parameters had no gradient, if they are others than in the step before.

        parameters: all that the model has now.
        """
        if self._missing:
            there = {one.name for one in parameters}
            self._missing = [name for name in self._missing if name in there]
        if set(self._missing) != set(self._told):
            self._told = self._missing
            self._sink.event("gradients_missing", {"parameters": self._missing})

    def _note_missing(self, parameters: Sequence[Parameter]) -> None:
        # Of the parameters of an optimizer that has not stepped nothing new is known.
        missing = [one.name for one in parameters if one.tensor.grad is None and one.tensor.requires_grad]
        if self._missing or missing:
            seen = {one.name for one in parameters}
            self._missing = [name for name in self._missing if name not in seen] + missing
