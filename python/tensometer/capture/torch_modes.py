"""In which mode a model is called, and for what."""

from typing import Any, NamedTuple

import torch
from torch import nn

from tensometer.capture.sink import Sink
from tensometer.capture.torch_tensors import in_backward


class _Pass(NamedTuple):
    phase: str
    training: bool
    gradients: bool


class Modes:
    """The passes of a model in each step that is captured, of which a change is told."""

    def __init__(self, model: nn.Module, prefix: str, sink: Sink) -> None:
        self._model, self._prefix, self._sink = model, prefix, sink
        self._passes: set[_Pass] = set()
        self._told: set[_Pass] = set()
        self._recomputes = False

    def begin_step(self) -> None:
        """Forget the passes of the step before."""
        self._passes.clear()
        self._recomputes = False

    def passed(self, phase: str, *, training: bool) -> None:
        """The model is called."""
        if in_backward():
            self._recomputes = True
        else:
            self._passes.add(_Pass(phase, training, torch.is_grad_enabled()))

    def end_step(self) -> None:
        """Tell of passes that are not those of the step before."""
        # What is checkpointed runs without gradients first, and again in the backward pass.
        passes = {one for one in self._passes if one.gradients or not (one.training and self._recomputes)}
        if not passes or passes == self._told:
            return
        self._told = passes
        data: dict[str, Any] = {
            "model": f"{self._prefix}model",
            "passes": [one._asdict() for one in sorted(passes)],
            "matters": any(map(_depends_on_mode, self._model.modules())),
        }
        self._sink.event("mode", data)


def _depends_on_mode(module: nn.Module) -> bool:
    """Whether a module computes something else in training: of those of PyTorch; others are unknown."""
    if isinstance(module, nn.modules.dropout._DropoutNd):
        return module.p > 0
    if isinstance(module, nn.modules.batchnorm._NormBase):
        return module.track_running_stats
    return isinstance(module, nn.RNNBase | nn.MultiheadAttention) and module.dropout > 0
