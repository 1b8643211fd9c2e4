"""An ordinary training loop, on the CPU or on the device, and what a monitor keeps of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import tensometer
import torch
from tensometer import Monitor
from tensometer.store import Record, TensorKey
from torch import nn
from torch_stand_in import nothing_waits

ALL = [
    "weights",
    "biases",
    "gradients",
    "activations",
    "inputs",
    "losses",
    "metrics",
    "loop",
    "optimizer_state",
    "buffers",
]


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.active = nn.ReLU(inplace=True)
        self.drop = nn.Flatten()
        self.last = nn.Linear(4 * 6 * 6, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.last(self.drop(self.active(self.norm(self.first(x)))))
        return y


def train(
    path: Path,
    place: Callable[[Any], Any],
    *,
    steps: int = 4,
    after_step: Callable[[int, Monitor, nn.Module], None] | None = None,
    spoil: int | None = None,
    **settings: Any,
) -> nn.Module:
    """Some steps of an ordinary loop. spoil: the step at which the input has a NaN."""
    torch.manual_seed(0)
    model = place(Net())
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    batches = torch.randn(steps, 8, 1, 8, 8)
    if spoil is not None:
        batches[spoil, 0, 0, 0, 0] = float("nan")
    labels = place(torch.arange(8) % 3)
    settings = {"every": 1, "collections": ALL} | settings
    with Monitor(path, **settings) as monitor:
        monitor.attach(model, optimizer=optimizer)
        for step in range(steps):
            with nothing_waits():
                loss = nn.functional.cross_entropy(model(place(batches[step])), labels)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                monitor.step(loss=loss, accuracy=0.5)
            if after_step is not None:
                after_step(step, monitor, model)
    return model


def on_host(value: Any) -> Any:
    return value


Rows = dict[tuple[Any, ...], tuple[TensorKey, Any]]


def rows_of(records: list[Record]) -> Rows:
    """Every row by what it is of, but those that tell the time; and forgets the records."""
    assert [one.step for one in records] == sorted(one.step for one in records)
    found: Rows = {}
    for one in records:
        for number, (key, summary) in enumerate(zip(one.keys, one.table, strict=True)):
            if key.name != "capture_seconds":
                mark = (one.step, one.phase, key.collection, key.name, number if key.name.endswith("/units") else 0)
                assert mark not in found, mark
                found[mark] = (key, summary)
    records.clear()
    return found


def told(path: Path, *kinds: str) -> list[tuple[int, str, Any]]:
    return [
        (one.step, one.kind, one.data) for one in tensometer.open_run(path).events() if not kinds or one.kind in kinds
    ]
