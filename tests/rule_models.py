"""Tiny real trainings for tests of rules."""

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from tensometer import Monitor
from tensometer.rules import Finding, Rule, Severity
from torch import nn


def perceptron(activation: Callable[[], nn.Module], scale: float | None = None) -> nn.Sequential:
    """Three layers, whose weights are normal with the deviation `scale` instead of PyTorch's own."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 24), activation(), nn.Linear(24, 24), activation(), nn.Linear(24, 3))
    for module in model:
        if scale is not None and isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=scale)
    return model


def blobs(count: int = 256) -> tuple[torch.Tensor, torch.Tensor]:
    """Three clouds of points, and which one each is of."""
    generator = torch.Generator().manual_seed(1)
    labels = torch.randint(3, (count,), generator=generator)
    return torch.randn(count, 8, generator=generator) + 2 * nn.functional.one_hot(labels, 8), labels


def trained(
    path: Path,
    rules: Sequence[Rule],
    model: nn.Module,
    *,
    rate: float = 0.01,
    steps: int = 20,
    loss: nn.Module | None = None,
    data: tuple[torch.Tensor, torch.Tensor] | None = None,
    each: Callable[[int, nn.Module], None] = lambda step, model: None,
) -> list[Finding]:
    """The warnings of rules while Adam trains on batches of 32. each: called before each step."""
    found: list[Finding] = []
    loss = loss or nn.CrossEntropyLoss()
    x, y = data or blobs()
    optimizer = torch.optim.Adam(model.parameters(), lr=rate)
    with Monitor(path, every=1, strict=True, rules=rules, on_finding=found.append) as monitor:
        monitor.attach(model, optimizer=optimizer, loss=loss)
        for step in range(steps):
            each(step, model)
            at = torch.arange(32 * step, 32 * step + 32) % len(x)
            optimizer.zero_grad()
            value = loss(model(x[at]), y[at])
            value.backward()
            optimizer.step()
            monitor.step(loss=value)
    return [finding for finding in found if finding.severity >= Severity.WARNING]
