"""What changes between steps or is shared: phases, optimizers, groups, parameters that come and go."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tensometer import Monitor, open_run
from torch import nn
from training import closed, names, network, x_and_y


def train(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    x, y = x_and_y()
    optimizer.zero_grad()
    nn.functional.cross_entropy(model(x), y).backward()
    optimizer.step()


@pytest.mark.parametrize("named", [True, False])
def test_of_evaluation_alone(tmp_path: Path, named: bool) -> None:
    model, (x, _) = network(), x_and_y()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    only = {"phases": ["eval"]}
    collections = {"activations": only, "inputs": only, "predictions": False, "labels": False}
    with Monitor(tmp_path, every=1, strict=True, collections=collections) as monitor:
        monitor.attach(model, optimizer=optimizer)
        for _ in range(2):
            train(model, optimizer)
            with monitor.phase("eval" if named else ""):
                model.eval()(x)
            model.train()
            monitor.step()
    run = open_run(tmp_path)
    assert names(run, "activations") == ["0", "1", "2"]
    for name in ("0", "1", "2", "input.0"):
        series = run.series(name)
        assert (series.steps.tolist(), series.phases) == ([0, 1], ("eval", "eval"))


def test_a_phase_that_begins_with_a_step_is_captured_from_there(tmp_path: Path) -> None:
    model, (x, _) = network(), x_and_y()
    with Monitor(tmp_path, every=1, strict=True, collections={"activations": {"phases": ["val"]}}) as monitor:
        monitor.attach(model)
        model(x)
        monitor.step()
        with monitor.phase("val"):
            for _ in range(2):
                model(x)
                monitor.step()
    assert open_run(tmp_path).series("0").steps.tolist() == [1, 2]


def test_optimizers_that_take_turns_with_the_same_parameters(tmp_path: Path) -> None:
    model = network()
    head, whole = torch.optim.SGD(model[2].parameters(), 0.1), torch.optim.Adam(model.parameters(), 1e-3)
    with Monitor(tmp_path, every=1, strict=True, collections={"updates": True, "optimizer_state": True}) as monitor:
        monitor.attach(model, optimizer=[head, whole])
        for step in range(6):
            train(model, head if step < 4 else whole)
            monitor.step()
    run = open_run(tmp_path)
    for collection in ("gradients", "updates"):
        assert run.series("2.weight", collection=collection).steps.tolist() == [0, 1, 2, 3, 4, 5]
        # Of the others the steps in which the optimizer that has them steps.
        assert run.series("0.weight", collection=collection).steps.tolist() == [4, 5]
    assert run.series("2.weight.exp_avg").steps.tolist() == [4, 5]
    assert run.series("2.weight", collection="weights").key.facts["optimizer"] == 0
    assert run.series("0.weight", collection="weights").key.facts["optimizer"] == 1


def test_optimizers_that_share_parameters_in_one_step(every_step: Callable[..., Monitor], tmp_path: Path) -> None:
    model = network()
    optimizers = [torch.optim.SGD(model.parameters(), 0.1) for _ in range(2)]
    monitor = every_step("gradients", "updates")
    monitor.attach(model, optimizer=optimizers)
    before = model[0].weight.detach().clone()
    train(model, optimizers[0])
    optimizers[1].step()
    monitor.step()
    run = closed(monitor, tmp_path)
    assert len(run.series("0.weight", collection="gradients")) == 1
    change = (model[0].weight - before).norm().item()
    assert run.series("0.weight", collection="updates")["l2"].tolist() == pytest.approx([change])


def test_a_group_that_is_filled_with_others(every_step: Callable[..., Monitor], tmp_path: Path) -> None:
    model = nn.Sequential(*[nn.Linear(3, 3) for _ in range(3)])
    optimizer = torch.optim.SGD(model[0].parameters(), 0.1)
    monitor = every_step("updates", "weights")
    monitor.attach(model, optimizer=optimizer)
    for step in range(6):
        optimizer.param_groups[0]["params"] = list(model[step // 2].parameters())
        optimizer.zero_grad()
        model(torch.ones(2, 3)).pow(2).mean().backward()
        optimizer.step()
        monitor.step()
    run = closed(monitor, tmp_path)
    for layer in range(3):
        series = run.series(f"{layer}.weight", collection="updates")
        assert series.steps.tolist() == [2 * layer, 2 * layer + 1]
        assert (series["l2"] > 0).all()
    assert run.series("2.weight", collection="weights").key.facts["optimizer"] == 0


@pytest.mark.parametrize("chosen", [{"module_types": ["Linear"]}, {"include": "weight$"}, {"exclude": "ratio|bias"}])
def test_what_is_said_of_updates_goes_with_them(tmp_path: Path, chosen: dict[str, object]) -> None:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with Monitor(tmp_path, every=1, strict=True, collections={"updates": chosen}) as monitor:
        monitor.attach(model, optimizer=optimizer)
        for _ in range(2):
            train(model, optimizer)
            monitor.step()
    found = {name for name in names(open_run(tmp_path), "updates") if name.startswith("0.weight")}
    assert found == {"0.weight", "0.weight/ratio", "0.weight/changed_fraction", "0.weight/cosine"}


class Lazy(nn.Module):
    """A part that is not called at first."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.lazy, self.norm = nn.Linear(6, 3), nn.LazyLinear(3), nn.BatchNorm1d(3)
        self.late = False

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.norm(self.a(x))
        return self.lazy(x) if self.late else x


def test_a_parameter_without_elements_yet_is_none(every_step: Callable[..., Monitor], tmp_path: Path) -> None:
    model = Lazy()
    monitor = every_step("weights", "biases", "buffers")
    monitor.attach(model)
    x, _ = x_and_y()
    for model.late in (False, True):
        model(x)
        monitor.step()
    run = closed(monitor, tmp_path)
    assert run.series("a.weight").steps.tolist() == run.series("norm.running_mean").steps.tolist() == [0, 1]
    assert run.series("lazy.weight").steps.tolist() == [1]
    assert run.events("problem") == []


def test_missing_gradients_of_what_is_gone(every_step: Callable[..., Monitor], tmp_path: Path) -> None:
    model = network()
    model.unused, model.other = nn.Linear(2, 2), nn.Linear(6, 6)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    monitor = every_step("gradients")
    monitor.attach(model, optimizer=optimizer)
    x, y = x_and_y()
    for step in range(4):
        if step == 2:
            del model.unused
        optimizer.zero_grad()
        given = model.other(x) if step == 3 else x
        nn.functional.cross_entropy(nn.Sequential(*[model[at] for at in range(3)])(given), y).backward()
        optimizer.step()
        monitor.step()
    told = {event.step: event.data["parameters"] for event in closed(monitor, tmp_path).events("gradients_missing")}
    others = ["other.weight", "other.bias"]
    assert told == {0: ["unused.weight", "unused.bias", *others], 2: others, 3: []}


class Tied(nn.Module):
    """Two names of one parameter in one module."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Parameter(torch.ones(3, 3))
        self.second = self.first


def test_a_parameter_that_one_module_has_twice(every_step: Callable[..., Monitor], tmp_path: Path) -> None:
    monitor = every_step("weights")
    monitor.attach(Tied())
    monitor.step()
    run = closed(monitor, tmp_path)
    assert names(run, "weights") == ["first"]
    assert run.series("first").key.facts["tied_names"] == ["second"]
