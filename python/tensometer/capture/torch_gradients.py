"""Gradients as they are used, their norm, and which are missing."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from tensometer._core import SummaryTable, norm
from tensometer.capture.nonfinite import Origin
from tensometer.capture.sink import Sink, Taken
from tensometer.capture.torch_parameters import Parameter
from tensometer.capture.torch_tensors import not_finite
from tensometer.store import TensorKey


@dataclass(eq=False)
class Gathered:
    """What has come of the gradients of a step."""

    tables: list[SummaryTable] = field(default_factory=list)
    left_out: int = 0
    awaited: bool = False

    @property
    def is_some(self) -> bool:
        """Whether there is a norm, or may be one when a device is done."""
        return self.awaited or self.norm is not None

    @property
    def norm(self) -> float | None:
        """The norm of all that were taken together; None if there were none, or some that the collection left out."""
        return norm(self.tables) if self.tables and not self.left_out else None


class GradientCapture:
    """The gradients of a step, which come in parts: each optimizer's when it steps.

    gathered: what has come of those of the step in progress so far.
    """

    def __init__(self, sink: Sink, origin: Origin) -> None:
        self._sink, self._origin = sink, origin
        self.gathered = Gathered()
        self._missing: list[str] = []
        self._told: list[str] = []

    def begin_step(self) -> None:
        """Forget the gradients of the step before."""
        self.gathered = Gathered()

    def take(self, parameters: Sequence[Parameter], scale: torch.Tensor | None = None) -> list[Taken]:
        """Record the gradients that there are. scale: what to divide them by."""
        if not self._sink.wants("gradients"):
            return []
        self._note_missing(parameters)
        parts = [one.part("gradients", one.tensor.grad) for one in parameters if one.tensor.grad is not None]
        if scale is not None:
            parts = _unscaled(parts, scale)
        gathered = self.gathered
        gathered.left_out += len(parts)
        gathered.awaited |= bool(parts)
        taken = self._sink.take([key for key, _ in parts], [gradient for _, gradient in parts])
        self._sink.after(lambda: self._judge(taken, gathered))
        return taken

    def _judge(self, taken: Sequence[Taken], gathered: "Gathered") -> None:
        gathered.awaited = False
        gathered.left_out -= sum(len(table) for _, table in taken)
        gathered.tables += [table for _, table in taken]
        broken = not_finite(taken)
        if broken:
            # Backward runs from the last layer to the first: the last in the model's order was reached first.
            self._origin.report("gradient", {"parameters": [key.name for key in reversed(broken)]})

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


def _unscaled(
    parts: Sequence[tuple[TensorKey, torch.Tensor]], scale: torch.Tensor
) -> list[tuple[TensorKey, torch.Tensor]]:
    """Gradients divided where they lie: one call, and few launches, a device."""
    unscaled = [gradient for _, gradient in parts]
    for device in {gradient.device for gradient in unscaled}:
        places = [at for at, gradient in enumerate(unscaled) if gradient.device == device]
        of_device = scale if scale.device == device else scale.to(device, non_blocking=True)
        divided = torch._foreach_div([unscaled[at] for at in places], of_device)
        for at, gradient in zip(places, divided, strict=True):
            unscaled[at] = gradient
    return [(key, gradient) for (key, _), gradient in zip(parts, unscaled, strict=True)]
