"""The event `mode`: in which mode a model is called, and for what."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tensometer import Monitor
from torch import nn
from torch.utils.checkpoint import checkpoint
from training import closed

TRAINING = {"phase": "train", "training": True, "gradients": True}
EVALUATION = {"phase": "eval", "training": False, "gradients": False}


def network() -> nn.Sequential:
    return nn.Sequential(nn.Linear(6, 5), nn.Dropout(0.1), nn.Linear(5, 3))


def test_passes_are_told_when_they_change(every_step: Callable[..., Monitor], tmp_path: Path) -> None:
    model, x = network(), torch.randn(4, 6)
    monitor = every_step("inputs", "weights")
    monitor.attach(model)
    for step in range(6):
        model(x).sum().backward()
        model(x)
        if step in (2, 3):
            model.eval()
            with torch.no_grad():
                model(x)
            model.train()
        monitor.step()
    events = closed(monitor, tmp_path).events("mode")
    assert [event.step for event in events] == [0, 2, 4]
    assert events[0].data == {"model": "model", "passes": [TRAINING], "matters": True}
    assert events[1].data["passes"] == [EVALUATION, TRAINING]


@pytest.mark.parametrize(
    ("module", "matters"),
    [
        (nn.Linear(6, 6), False),
        (nn.Dropout(0.0), False),
        (nn.Dropout1d(0.5), True),
        (nn.BatchNorm1d(6), True),
        (nn.BatchNorm1d(6, track_running_stats=False), False),
        (nn.LayerNorm(6), False),
    ],
)
def test_whether_the_mode_matters(
    every_step: Callable[..., Monitor], tmp_path: Path, module: nn.Module, matters: bool
) -> None:
    monitor = every_step("inputs", "weights")
    model = nn.Sequential(nn.Linear(6, 6), module)
    monitor.attach(model, name="net")
    model(torch.randn(4, 6))
    monitor.step()
    (event,) = closed(monitor, tmp_path).events("mode")
    assert (event.data["model"], event.data["matters"]) == ("net.model", matters)


def test_checkpointing_the_model_is_no_pass_without_gradients(
    every_step: Callable[..., Monitor], tmp_path: Path
) -> None:
    model = network()
    monitor = every_step("inputs", "weights")
    monitor.attach(model)
    x = torch.randn(4, 6, requires_grad=True)
    output: Any = checkpoint(model, x, use_reentrant=True)
    output.sum().backward()
    monitor.step()
    assert closed(monitor, tmp_path).events("mode") == []
