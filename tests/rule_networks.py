"""What tests of rules about parameters share: facts of trained tensors, and tiny trainings under a rule."""

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from tensometer import Monitor
from tensometer.replay import evaluate
from tensometer.rules import Finding, Rule
from torch import nn

TRAINED = {"requires_grad": True, "optimizer": 0, "parameter_group": 0, "module_type": "Linear"}
LEFT_OUT = {"requires_grad": True, "optimizer": None, "parameter_group": None, "module_type": "Linear"}
FROZEN = {"requires_grad": False, "optimizer": None, "parameter_group": None, "module_type": "Linear"}


def rate(value: float) -> dict[str, float]:
    """What the loop says of a step in which an optimizer has stepped by this learning rate."""
    return {"learning_rate/0": value, "optimizer_steps": 1.0}


def trained(
    place: Path,
    rule: Rule,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    *,
    steps: int = 12,
    clear: bool = True,
    after: Callable[[int], Any] = lambda step: None,
) -> list[Finding]:
    """Train ten classes of normal numbers under a rule; its findings, which are the same from the stored run."""
    generator = torch.Generator().manual_seed(0)
    inputs = next(model.parameters()).shape[1]
    centres = torch.randn(10, inputs, generator=generator)
    found: list[Finding] = []
    with Monitor(place, every=1, rules=rule, on_finding=found.append, strict=True) as monitor:
        monitor.attach(model, optimizer=optimizer)
        for step in range(steps):
            y = torch.randint(10, (32,), generator=generator)
            x = centres[y] + torch.randn(32, inputs, generator=generator)
            if clear:
                optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
            after(step)
            monitor.step(loss=loss)
    assert evaluate(place, [rule]) == found
    return found


def layers(*sizes: int, activation: Callable[[], nn.Module] = nn.ReLU) -> nn.Sequential:
    """Linear layers with an activation between them, from one seed."""
    torch.manual_seed(0)
    found: list[nn.Module] = []
    for a, b in pairwise(sizes):
        found += [nn.Linear(a, b), activation()]
    return nn.Sequential(*found[:-1])


def sgd(model: nn.Module, learning_rate: float = 0.1) -> torch.optim.SGD:
    """Plain gradient descent over all parameters."""
    return torch.optim.SGD(model.parameters(), learning_rate)
