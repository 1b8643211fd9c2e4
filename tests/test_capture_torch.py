"""PyTorch's ways of training: several models and optimizers, parameters and buffers of every kind."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tensometer import Monitor, open_run
from torch import nn
from training import closed, l2, names, network, x_and_y


def test_several_models_and_optimizers(every_step: Callable[..., Monitor], tmp_path: Path) -> None:
    first, second, (x, y) = network(), network(), x_and_y()
    monitor = every_step("gradients", "loop")
    one = torch.optim.SGD(first[0].parameters(), lr=0.1, weight_decay=0.01)
    two = torch.optim.SGD([{"params": first[2].parameters()}, {"params": []}], lr=0.2)
    three = torch.optim.SGD(second.parameters(), lr=0.3)
    monitor.attach(first, optimizer=[one, two], name="g")
    monitor.attach(second, optimizer=three, name="d")
    expected = {}
    for model, optimizers in ((first, (one, two)), (second, (three,))):
        nn.functional.cross_entropy(second(first(x).repeat(1, 2)) if model is second else first(x), y).backward()
        name = "gd"[model is second]
        expected |= {f"{name}.{n}": l2(p.grad) for n, p in model.named_parameters()}
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
    monitor.step()
    run = closed(monitor, tmp_path)
    assert {name: run.series(name)["l2"].tolist() for name in expected} == {n: [v] for n, v in expected.items()}
    rates = {key.name: run.series(key.name)["mean"][0] for key in run.tensors("loop", "rate|decay")}
    assert rates["g.0/learning_rate/0"] == 0.1
    assert rates["g.0/weight_decay/0"] == 0.01
    assert rates["g.1/learning_rate/1"] == 0.2
    assert rates["d.learning_rate/0"] == 0.3
    facts = run.series("g.2.bias").key.facts
    assert (facts["optimizer"], facts["parameter_group"]) == (1, 0)


def test_what_no_optimizer_has(every_step: Callable[..., Monitor], tmp_path: Path) -> None:
    model, (x, y) = network(), x_and_y()
    model[0].bias.requires_grad_(False)
    optimizer = torch.optim.SGD(model[2].parameters(), lr=0.1)
    monitor = every_step("weights", "biases", "gradients", "loop")
    monitor.attach(model, optimizer=optimizer)
    for part in (0, 2):
        optimizer.zero_grad()
        model[2].bias.requires_grad_(part == 0)
        nn.functional.cross_entropy(model(x), y).backward()
        if part:
            model[2].bias.grad = None
            model[2].bias.requires_grad_(True)
        optimizer.step()
        monitor.step()
    run = closed(monitor, tmp_path)
    assert run.series("0.weight", collection="gradients").key.facts["optimizer"] is None
    assert run.series("0.bias").key.facts["requires_grad"] is False
    assert "0.bias" not in names(run, "gradients")
    assert run.series("2.bias", collection="gradients").steps.tolist() == [0]
    (missing,) = run.events("gradients_missing")
    assert (missing.step, missing.data) == (1, {"parameters": ["2.bias"]})


def test_wrapped_optimizers(every_step: Callable[..., Monitor], tmp_path: Path) -> None:
    accelerate = pytest.importorskip("accelerate")
    model, (x, y) = network(), x_and_y()
    monitor = every_step("gradients", "loop")
    accelerator = accelerate.Accelerator(cpu=True)
    optimizer = accelerator.prepare(torch.optim.SGD(model.parameters(), lr=0.1))
    monitor.attach(model, optimizer=[optimizer])
    accelerator.backward(nn.functional.cross_entropy(model(x), y))
    expected = l2(model[0].weight.grad)
    optimizer.step()
    optimizer.zero_grad()
    monitor.step()
    run = closed(monitor, tmp_path)
    assert run.series("0.weight")["l2"].tolist() == [expected]
    assert run.series("optimizer_steps")["mean"].tolist() == [1]


def test_names_of_biases(every_step: Callable[..., Monitor], tmp_path: Path) -> None:
    monitor = every_step("weights", "biases")
    monitor.attach(nn.ModuleDict({"a": nn.MultiheadAttention(4, 2), "r": nn.RNNCell(2, 2, bias=True)}))
    monitor.step()
    run = closed(monitor, tmp_path)
    assert names(run, "weights") == ["a.in_proj_weight", "a.out_proj.weight", "r.weight_ih", "r.weight_hh"]
    assert names(run, "biases") == ["a.in_proj_bias", "a.out_proj.bias", "r.bias_ih", "r.bias_hh"]


def test_optimizer_state_and_buffers(every_step: Callable[..., Monitor], tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5))
    optimizer = torch.optim.Adam(model.parameters())
    monitor = every_step("optimizer_state", "buffers")
    monitor.attach(model, optimizer=optimizer)
    model(x_and_y()[0]).square().sum().backward()
    optimizer.step()
    monitor.step()
    run = closed(monitor, tmp_path)
    state = optimizer.state[model[0].weight]
    assert run.series("0.weight.exp_avg")["l2"].tolist() == [l2(state["exp_avg"])]
    assert run.series("0.weight.exp_avg_sq")["max"].tolist() == [state["exp_avg_sq"].max()]
    assert names(run, "buffers") == ["1.running_mean", "1.running_var"]
    assert run.series("1.running_mean")["l2"].tolist() == [l2(model[1].running_mean)]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.complex64])
def test_dtypes_of_parameters(every_step: Callable[..., Monitor], tmp_path: Path, dtype: torch.dtype) -> None:
    weight = nn.Parameter(torch.ones(3, 4, dtype=dtype))
    model = nn.ParameterList([weight])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    monitor = every_step("weights", "gradients", "updates")
    monitor.attach(model, optimizer=optimizer)
    weight.grad = torch.full_like(weight, 0.25)
    optimizer.step()
    monitor.step()
    run = closed(monitor, tmp_path)
    name = str(dtype).removeprefix("torch.")
    dtypes = {key.collection: key.dtype for key in run.tensors(regex="^0$")}
    assert dtypes == {"weights": name, "gradients": name, "updates": "float32"}  # differences: in lanes of the core
    assert run.series("0", collection="gradients")["max"].tolist() == [0.25]
    assert run.series("0", collection="updates")["linf"].tolist() == [0.125]


def test_units_of_what_has_none(tmp_path: Path) -> None:
    model = nn.ModuleDict({"table": nn.Embedding(10, 4, sparse=True), "head": nn.Linear(4, 1)})
    with Monitor(tmp_path, every=1, collections={"gradients": {"units": True}}) as monitor:
        monitor.attach(model)
        model["head"](model["table"](torch.tensor([1, 1, 2]))).sum().backward()
        with pytest.warns(RuntimeWarning, match="table.weight/units"):
            monitor.step()
    run = open_run(tmp_path)
    assert names(run, "gradients") == ["table.weight", "head.weight", "head.bias", "head.weight/units"]
    assert "gradient_norm" in names(run, "loop")


def test_a_model_is_replaced(every_step: Callable[..., Monitor], tmp_path: Path) -> None:
    model = network()
    monitor = every_step("weights")
    monitor.attach(model)
    monitor.step()
    model[0] = nn.Linear(6, 7)
    monitor.step()
    monitor.detach()
    monitor.attach(network(), name="other")
    monitor.step()
    run = closed(monitor, tmp_path)
    assert [key.shape for key in run.tensors(regex=r"^0\.weight")] == [(5, 6), (7, 6)]
    assert run.series("0.weight").steps.tolist() == [0, 1]
    assert run.series("other.0.weight").steps.tolist() == [2]


def test_one_tensor_that_cannot_be_read(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2, device="meta"))
    with Monitor(tmp_path, every=1) as monitor:
        monitor.attach(model)
        with pytest.warns(RuntimeWarning, match="could not be captured"):
            monitor.step()
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            monitor.step()
    run = open_run(tmp_path)
    assert run.series("0.weight").steps.tolist() == [0, 1]
    problems = run.events("problem")
    assert any("1.weight" in event.data["error"] for event in problems)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"model": 3}, "model: int is not a torch.nn.Module"),
        ({"loss": 3}, "loss: int is not a torch.nn.Module"),
        ({"optimizer": 3}, "optimizer: int is neither an optimizer of PyTorch nor a list of them"),
        ({"optimizer": [3]}, "optimizer: list is neither an optimizer of PyTorch nor a list of them"),
    ],
)
def test_wrong_objects(tmp_path: Path, arguments: dict[str, Any], message: str) -> None:
    with Monitor(tmp_path) as monitor, pytest.raises(TypeError, match=message):
        monitor.attach(**{"model": network(), **arguments})


def test_resumed_at_a_checkpoint(tmp_path: Path) -> None:
    with Monitor(tmp_path, every=5) as monitor:
        monitor.resume_at(100)
        assert monitor.current_step == 100
        monitor.step(loss=1.0)
        monitor.resume_at(3)
        monitor.step(loss=1.0, self=2.0)
    assert open_run(tmp_path).series("loss").steps.tolist() == [100]
