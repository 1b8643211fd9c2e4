"""The first value of a step that is not finite is traced to the module or place that brought it forth."""

from pathlib import Path
from typing import Any

import pytest
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


def trained(path: Path, model: nn.Module, inputs: list[torch.Tensor], **settings: Any) -> list[tensometer.store.Event]:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with Monitor(path, every=1, strict=True, **settings) as monitor:
        monitor.attach(model, optimizer=optimizer)
        for x in inputs:
            optimizer.zero_grad()
            loss = model(x).sum()
            loss.backward()
            optimizer.step()
            monitor.step(loss=loss)
    return found(path)


def test_a_fault_in_a_module_that_nobody_watched(tmp_path: Path) -> None:
    """The step in which it happens tells that it lies in the model; what follows from it is called a consequence."""
    model = nn.Sequential(nn.Linear(3, 3), Log(), nn.Linear(3, 2))
    with torch.no_grad():
        model[0].weight.copy_(torch.eye(3))
        model[0].bias.zero_()
        model[2].weight.fill_(0.1)
    good, bad = torch.full((4, 3), 2.0), torch.full((4, 3), -2.0)
    first, second, third = trained(tmp_path, model, [good, bad, good, good])
    assert (first.step, first.data["where"], first.data["module"]) == (1, "model", "model")
    assert first.data["first"]
    assert first.data["parameters_not_finite"] == []
    assert first.data["outputs"][0]["nan"] == 8
    assert (first.data["inputs"][0]["nan"], first.data["inputs"][0]["linf"]) == (0, 2)
    assert (second.data["where"], second.data["module"], second.data["consequence_of"]) == ("forward", "2", 1)
    assert (third.data["where"], third.data["consequence_of"]) == ("model", 1)
    assert "2.weight" in third.data["parameters_not_finite"]


def test_a_model_with_broken_weights_is_nobodys_consequence(tmp_path: Path) -> None:
    model = nn.Linear(3, 2)
    with torch.no_grad():
        model.weight[0, 0] = torch.nan
    (event,) = trained(tmp_path, model, [torch.ones(4, 3)])
    assert (event.data["where"], event.data["parameters_not_finite"]) == ("model", ["weight"])
    assert "consequence_of" not in event.data


def test_data_that_are_not_finite(tmp_path: Path) -> None:
    x = torch.ones(4, 3)
    x[0, 0] = torch.nan
    collections = {"activations": True}
    (event,) = trained(tmp_path, nn.Linear(3, 2), [x], collections=collections)
    assert event.data == {"where": "input", "inputs": ["input.0"]}


def test_missing_values_that_the_model_knows_of(tmp_path: Path) -> None:
    class Filled(nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x.nan_to_num(0))

    x = torch.ones(4, 3)
    x[0, 0] = torch.nan
    assert trained(tmp_path, Filled(3, 2), [x]) == []


def test_data_of_a_step_that_raises(tmp_path: Path) -> None:
    """What was found is told, also where nothing but the model's output says that it was no intention."""

    def training() -> None:
        with Monitor(tmp_path, every=1) as monitor:
            model = nn.Linear(3, 2)
            monitor.attach(model)
            model(torch.full((4, 3), torch.nan))
            raise FloatingPointError

    with pytest.raises(FloatingPointError):
        training()
    (event,) = found(tmp_path)
    assert event.data == {"where": "input", "inputs": ["input.0"]}


def test_a_filter_that_hides_the_culprit(tmp_path: Path) -> None:
    """A module that was handed the fault is not said to be the first; then all are looked at, recorded or not."""
    model = nn.Sequential(nn.Linear(3, 3), Log(), nn.ReLU())
    with torch.no_grad():
        model[0].weight.zero_()
        model[0].bias.fill_(-1)
    settings = {"collections": {"activations": {"include": "^2"}, "gradients": False, "weights": False}}
    with Monitor(tmp_path, every=1, strict=True, **settings) as monitor:
        monitor.attach(model)
        for _ in range(2):
            step(monitor, model, torch.ones(4, 3))
    first, second = found(tmp_path)
    assert (first.data["module"], first.data["first"]) == ("2", False)
    assert (second.data["module"], second.data["first"]) == ("1", True)
    assert [key.name for key in open_run(tmp_path).tensors("activations")] == ["2"]


def test_infinities_that_are_meant(tmp_path: Path) -> None:
    """A mask in the inputs, and masked scores, are no accident."""

    class Masked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scores, self.add, self.soft = nn.Linear(3, 3), Sum(), nn.Softmax(-1)

        def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
            weights: torch.Tensor = self.soft(self.add(self.scores(x), mask))
            return weights

    class Sum(nn.Module):
        def forward(self, one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
            return one + other

    mask = torch.tensor([0, -torch.inf, 0])
    model = Masked()
    with Monitor(tmp_path, every=1, strict=True, collections={"activations": True}) as monitor:
        monitor.attach(model)
        loss = model(torch.ones(4, 3), mask).square().sum()
        loss.backward()
        monitor.step(loss=loss)
    assert found(tmp_path) == []


def test_watched_is_every_pass(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(3, 3), Log(), nn.Linear(3, 2))
    with torch.no_grad():
        model[0].weight.copy_(torch.eye(3))
        model[0].bias.zero_()
    with Monitor(tmp_path, every=1, strict=True, collections=["losses", "activations"]) as monitor:
        monitor.attach(model)
        for _ in range(2):
            model(torch.ones(4, 3))
            monitor.step(loss=model(torch.full((4, 3), -1.0)).sum())
    first, second = found(tmp_path)
    assert first.data["where"] == "loss"
    assert (second.data["where"], second.data["module"]) == ("forward", "1")
    assert len(open_run(tmp_path).series("1")) == 2


@pytest.mark.parametrize("settings", [{}, {"predictions": {"exclude": "prediction"}}])
def test_predictions_tell_of_the_model_as_its_output_does(tmp_path: Path, settings: dict[str, Any]) -> None:
    model, loss_module = nn.Sequential(nn.Linear(3, 3), Log()), nn.MSELoss()
    with torch.no_grad():
        model[0].weight.copy_(-torch.eye(3))
        model[0].bias.zero_()
    with Monitor(tmp_path, every=1, strict=True, collections=settings) as monitor:
        monitor.attach(model, loss=loss_module)
        loss = loss_module(model(torch.ones(4, 3)), torch.ones(4, 3))
        monitor.step(loss=loss)
    (event,) = found(tmp_path)
    assert (event.data["where"], event.data["module"], event.data["first"]) == ("model", "model", True)
    assert event.data["outputs"][0]["nan"] == 12
    assert event.data["inputs"][0]["linf"] == 1
