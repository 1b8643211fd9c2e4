"""Updates: what an optimizer really changed."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tensometer
import torch
from tensometer import Monitor, open_run
from torch import nn


def one_weight(values: list[float], dtype: torch.dtype = torch.float32) -> nn.ParameterList:
    return nn.ParameterList([nn.Parameter(torch.tensor(values, dtype=dtype))])


def updated(path: Path, model: nn.Module, rate: float, gradients: list[list[float]]) -> tensometer.Run:
    optimizer = torch.optim.SGD(model.parameters(), lr=rate)
    with Monitor(path, every=1, strict=True, collections=["updates"]) as monitor:
        monitor.attach(model, optimizer=optimizer)
        for gradient in gradients:
            (weight,) = model.parameters()
            weight.grad = torch.tensor(gradient, dtype=weight.dtype)
            optimizer.step()
            monitor.step()
    return open_run(path)


def test_difference_ratio_and_cosine(tmp_path: Path) -> None:
    model = one_weight([3, 4, 0, 0])
    run = updated(tmp_path, model, 0.5, [[2, 0, 0, 0], [2, 2, 0, 0], [-4, -4, 0, 0]])
    assert run.series("0")["l2"].tolist() == pytest.approx([1, np.sqrt(2), np.sqrt(8)])
    assert run.series("0")["min"].tolist() == [-1, -1, 0]
    ratios = [1 / 5, np.sqrt(2 / (4 + 16)), np.sqrt(8 / (1 + 9))]
    assert run.series("0/ratio")["mean"].tolist() == pytest.approx(ratios)
    assert run.series("0/changed_fraction")["mean"].tolist() == [0.25, 0.5, 0.5]
    assert run.series("0/cosine").steps.tolist() == [1, 2]
    assert run.series("0/cosine")["mean"].tolist() == pytest.approx([np.sqrt(0.5), -1])


def test_updates_that_are_rounded_away(tmp_path: Path) -> None:
    model = one_weight([1, 256], torch.bfloat16)
    run = updated(tmp_path, model, 1.0, [[0.0078125, 0.0078125]])
    assert run.series("0/changed_fraction")["mean"].tolist() == [0.5]
    assert run.series("0")["zeros"].tolist() == [1]


def test_a_subset(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(10, 20), nn.Linear(20, 2))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    settings = {"updates": {"exclude": "bias", "largest": 100}}
    with Monitor(tmp_path, every=1, strict=True, collections=settings) as monitor:
        monitor.attach(model, optimizer=optimizer)
        model(torch.ones(1, 10)).sum().backward()
        optimizer.step()
        monitor.step()
    names = [key.name for key in open_run(tmp_path).tensors("updates")]
    assert names == ["1.weight", "1.weight/ratio", "1.weight/changed_fraction"]


def test_steps_that_are_not_captured_are_not_in_the_update(tmp_path: Path) -> None:
    model = one_weight([0, 0])
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    with Monitor(tmp_path, every=3, strict=True, collections=["updates"]) as monitor:
        monitor.attach(model, optimizer=optimizer)
        for step in range(4):
            (weight,) = model.parameters()
            weight.grad = torch.tensor([1.0 + step, 0])
            optimizer.step()
            monitor.step()
    assert open_run(tmp_path).series("0")["l2"].tolist() == [1, 4]


def test_several_steps_of_the_optimizer(tmp_path: Path) -> None:
    model = one_weight([0, 0])
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    collections = {"updates": {"phases": ["critic"]}, "gradients": True}
    with Monitor(tmp_path, every=1, strict=True, collections=collections) as monitor:
        monitor.attach(model, optimizer=optimizer)
        (weight,) = model.parameters()
        for _ in range(2):
            with monitor.phase("critic"):
                for gradient in ([3.0, 0.0], [0.0, 4.0]):
                    weight.grad = torch.tensor(gradient)
                    optimizer.step()
            monitor.step()
    run = open_run(tmp_path)
    assert run.series("0", collection="updates", phase="critic")["l2"].tolist() == [5, 5]
    assert run.series("0/cosine", phase="critic")["mean"].tolist() == [1]
    assert run.series("0", collection="gradients")["l2"].tolist() == [3, 3]


@pytest.mark.parametrize(
    "change", [lambda weight: weight.t().contiguous().t(), lambda weight: weight.double(), lambda weight: weight[:2]]
)
def test_a_parameter_that_becomes_another_tensor(
    tmp_path: Path, change: Callable[[torch.Tensor], torch.Tensor]
) -> None:
    """Its update is not known in that step, and what was known before is not told again."""
    model = nn.Linear(4, 3)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with Monitor(tmp_path, every=1, collections={"updates": {"save": "raw"}}) as monitor:
        monitor.attach(model, optimizer=optimizer)
        for step in range(2):
            optimizer.zero_grad()
            model(torch.ones(2, 4)).square().mean().backward()
            optimizer.step()
            if step == 1:
                model.weight.data = change(model.weight.data)
                with pytest.warns(RuntimeWarning, match="weight changed dtype or shape|is not the one that"):
                    monitor.step()
            else:
                monitor.step()
    run = open_run(tmp_path)
    assert run.series("weight", collection="updates").steps.tolist() == [0]
    assert [event.step for event in run.events("raw") if event.data["name"] == "weight"] == [0]


def test_parameters_that_are_frozen_after_the_step(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with Monitor(tmp_path, every=1, strict=True, collections={"updates": True}) as monitor:
        monitor.attach(model, optimizer=optimizer)
        for step in range(3):
            optimizer.zero_grad()
            model(torch.ones(2, 2)).square().mean().backward()
            optimizer.step()
            model[0].weight.requires_grad_(step < 1)
            monitor.step()
    run = open_run(tmp_path)
    assert run.series("0.weight", collection="updates").steps.tolist() == [0, 1]
    assert run.series("1.weight", collection="updates").steps.tolist() == [0, 1, 2]
