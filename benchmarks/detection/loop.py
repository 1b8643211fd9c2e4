"""The training loop that most cases share."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from benchmarks.detection.case import Trial
from benchmarks.detection.data import Batches

Hook = Callable[[int], object]


def backward(loss: Tensor) -> None:
    """The gradients of a loss."""
    loss.backward()  # type: ignore[no-untyped-call]


def train_before(model: nn.Module, batches: Batches, steps: int) -> None:
    """Train a classifier that a monitor is to see later."""
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    for _ in range(steps):
        x, y = next(batches)
        optimizer.zero_grad()
        backward(nn.functional.cross_entropy(model(x), y))
        optimizer.step()


@dataclass
class Fit:
    """How a model is trained.

    before, after_backward, after_update: called with the number of the step. schedule: the learning rate of a step, as
    a factor. held: data whose loss is reported as val_loss at every tenth step, as evaluation mode has it. flatten:
    outputs are (batch, time, class).
    """

    steps: int = 60
    loss: nn.Module | None = None
    clip: float | None = None
    schedule: Callable[[int], float] | None = None
    held: tuple[Tensor, Tensor] | None = None
    every: int = 10
    before: Hook | None = None
    after_backward: Hook | None = None
    after_update: Hook | None = None
    flatten: bool = False

    def __call__(self, trial: Trial, model: nn.Module, optimizer: Optimizer, data: Batches) -> None:
        """Train under a monitor."""
        loss_module = self.loss or nn.CrossEntropyLoss()
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, self.schedule) if self.schedule else None
        with trial.monitor() as monitor:
            monitor.attach(model, optimizer=optimizer, loss=loss_module)
            for step in range(self.steps):
                _call(self.before, step)
                x, y = next(data)
                optimizer.zero_grad()
                loss = self._loss(loss_module, model(x), y)
                backward(loss)
                _call(self.after_backward, step)
                if self.clip is not None:
                    nn.utils.clip_grad_norm_(model.parameters(), self.clip)
                optimizer.step()
                if scheduler is not None:
                    scheduler.step()
                _call(self.after_update, step)
                monitor.step(loss=loss, **self._held_out(step, model, loss_module))

    def _loss(self, loss_module: nn.Module, output: Tensor, y: Tensor) -> Tensor:
        if self.flatten:
            output, y = output.flatten(0, 1), y.flatten()
        result: Tensor = loss_module(output, y)
        return result

    def _held_out(self, step: int, model: nn.Module, loss_module: nn.Module) -> dict[str, Any]:
        if self.held is None or step % self.every != self.every - 1:
            return {}
        model.eval()
        with torch.no_grad():
            loss = self._loss(loss_module, model(self.held[0]), self.held[1])
        model.train()
        return {"val_loss": float(loss)}


def _call(hook: Hook | None, step: int) -> None:
    if hook is not None:
        hook(step)


def at(when: int, action: Callable[[], object]) -> Hook:
    """A hook that does something at one step."""
    return lambda step: action() if step == when else None


def warm_up(steps: int) -> Callable[[int], float]:
    """A linear rise from a learning rate of 0."""
    return lambda step: min(1.0, step / steps)


def cosine(steps: int) -> Callable[[int], float]:
    """A decay to 0."""
    return lambda step: 0.5 * (1 + math.cos(math.pi * min(1.0, step / steps)))
