"""The first value of a step that is not finite is traced to the module or place that brought it forth."""

from pathlib import Path

import tensometer
import torch
from tensometer import Monitor, open_run
from torch import nn


class Log(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.log(x)


class Root(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.sqrt(x)


def step(monitor: Monitor, model: nn.Module, x: torch.Tensor) -> None:
    model.zero_grad()
    loss = model(x).sum()
    loss.backward()
    monitor.step(loss=loss)


def found(path: Path) -> list[tensometer.store.Event]:
    return open_run(path).events("nonfinite")


def test_forward(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.ReLU(), Log(), nn.Linear(3, 2))
    with torch.no_grad():
        model[0].weight.zero_()
        model[0].bias.fill_(-1)
    with Monitor(tmp_path, every=1, strict=True, collections={"activations": True}) as monitor:
        monitor.attach(model)
        step(monitor, model, torch.ones(4, 3))
    (event,) = found(tmp_path)
    assert event.data["where"] == "forward"
    assert (event.data["module"], event.data["module_type"]) == ("2", "Log")
    assert event.data["outputs"][0]["neginf"] == 12
    (entered,) = event.data["inputs"]
    assert (entered["shape"], entered["nan"], entered["linf"]) == ([4, 3], 0, 0)
    assert event.data["parameters_not_finite"] == []


def test_weights_that_are_not_finite(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 2))
    with torch.no_grad():
        model[1].weight[0, 0] = torch.nan
    with Monitor(tmp_path, every=1, strict=True, collections={"activations": True}) as monitor:
        monitor.attach(model)
        step(monitor, model, torch.ones(4, 3))
    (event,) = found(tmp_path)
    assert (event.data["module"], event.data["parameters_not_finite"]) == ("1", ["weight"])


def test_backward_is_found_at_the_next_step(tmp_path: Path) -> None:
    """Without activations the gradients tell first; from then on modules are watched."""
    model = nn.Sequential(nn.Linear(3, 3), Root(), nn.Linear(3, 2))
    with torch.no_grad():
        model[0].weight.zero_()
        model[0].bias.zero_()  # the square root's slope at 0 is infinite
    with Monitor(tmp_path, every=1, strict=True) as monitor:
        monitor.attach(model)
        for _ in range(3):
            step(monitor, model, torch.ones(4, 3))
    first, second, third = found(tmp_path)
    assert (first.step, first.data["where"]) == (0, "gradient")
    assert first.data["parameters"] == ["0.bias", "0.weight"]
    assert (second.step, second.data["where"], second.data["module"]) == (1, "backward", "1")
    assert second.data["inputs"][0]["nan"] == 0
    assert second.data["outputs"][0]["posinf"] + second.data["outputs"][0]["neginf"] == 12
    assert third.data["where"] == "gradient"
    assert open_run(tmp_path).tensors("activations") == []


def test_loss(tmp_path: Path) -> None:
    with Monitor(tmp_path, every=1, strict=True) as monitor:
        monitor.step(loss=torch.tensor(float("nan"), requires_grad=True), val_loss=1.0)
        monitor.step(loss=1.0)
    (event,) = found(tmp_path)
    assert event.data == {"where": "loss", "losses": {"loss": "nan", "val_loss": "1.0"}}


def test_modules_are_watched_for_three_steps_whatever_is_captured(tmp_path: Path) -> None:
    """What is found in a step that is not captured belongs to that step; and then, or after three, hooks are gone."""
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 2))
    hooked = []
    with Monitor(tmp_path, every=10, strict=True) as monitor:
        monitor.attach(model)
        for number in range(30):
            hooked += [number] if model[0]._forward_hooks else []
            output = model(torch.full((4, 3), float("inf") if number == 22 else 1.0)).sum()
            monitor.step(loss=float("nan") if number in (10, 20) else output)
    assert [(event.step, event.data["where"]) for event in found(tmp_path)] == [
        (10, "loss"),
        (20, "loss"),
        (22, "forward"),
    ]
    assert hooked == [11, 12, 13, 21, 22]


def test_a_run_that_stays_broken_says_so_a_few_times(tmp_path: Path) -> None:
    with Monitor(tmp_path, every=1, strict=True) as monitor:
        for _ in range(50):
            monitor.step(loss=float("inf"))
    assert len(found(tmp_path)) == 10
