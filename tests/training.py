"""Small networks, and what a run says of them."""

from pathlib import Path
from typing import Any

import tensometer
import torch
from tensometer import Monitor, open_run
from tensometer.capture.torch_classes import class_counts, classes_seen
from torch import nn


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3))


def x_and_y() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(8, 6, generator=generator), torch.randint(3, (8,), generator=generator)


def counted(loss: nn.Module, predictions: Any, labels: Any) -> dict[str, Any] | None:
    """The data of an event `classes`."""
    seen = classes_seen(loss, predictions, labels)
    return None if seen is None else class_counts(seen, seen.tensors)


def l2(tensor: torch.Tensor | None) -> float:
    assert tensor is not None
    return tensometer.summarize(tensor).l2


def names(run: tensometer.Run, collection: str) -> list[str]:
    return [key.name for key in run.tensors(collection)]


def closed(monitor: Monitor, path: Path) -> tensometer.Run:
    monitor.close()
    return open_run(path)
