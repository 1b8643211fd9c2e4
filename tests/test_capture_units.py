"""What a run says of units: the fractions of them that stand out, and how far their elements lie apart."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from tensometer import Monitor, Run, open_run
from torch import nn
from training import closed, names

FACTS = ("inactive_units", "constant_units", "identical_units", "unit_spread")

Floats = npt.NDArray[Any]


def expected(tensor: torch.Tensor, axis: int) -> dict[str, float]:
    units: Floats = np.moveaxis(tensor.detach().double().numpy(), axis, 0)
    units = units.reshape(len(units), -1)
    rows = [row.tobytes() for row in units if row.any()]
    return {
        "inactive_units": sum(bool((row <= 0).all()) for row in units) / len(units),
        "constant_units": sum(bool((row == row[0]).all()) for row in units) / len(units),
        "identical_units": (len(rows) - len(set(rows))) / len(units),
        "unit_spread": float(np.sqrt(units.var(axis=1).mean())),
    }


def facts(run: Run, name: str, collection: str) -> dict[str, float]:
    found = {fact: run.series(f"{name}/{fact}", collection=collection)["mean"][0] for fact in FACTS[:2]}
    found["unit_spread"] = run.series(f"{name}/unit_spread", collection=collection)["mean"][0]
    return found


def network() -> nn.Sequential:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(2, 6, 1), nn.ReLU(), nn.Flatten(), nn.Linear(54, 5), nn.ReLU())
    with torch.no_grad():
        model[0].bias[1] = -9  # inactive
        model[0].weight[2], model[0].bias[2] = 0, 3  # constant, and active
        model[3].weight[2] = model[3].weight[0]  # identical
        model[3].weight[3:] = 0
    return model


@pytest.fixture
def recorded(tmp_path: Path) -> tuple[Run, dict[str, torch.Tensor], nn.Sequential]:
    model, outputs = network(), dict[str, torch.Tensor]()
    collections = {name: {"unit_counts": True} for name in ("weights", "activations", "inputs")}
    with Monitor(tmp_path, every=1, strict=True, collections=collections) as monitor:
        monitor.attach(model)
        x = torch.randn(4, 2, 3, 3)
        outputs["input.0"] = x
        model(x)
        monitor.step()
    for name, module in model.named_children():
        outputs[name] = x = module(x)
    return open_run(tmp_path), outputs, model


def test_fractions_of_activations_are_those_of_numpy(recorded: Any) -> None:
    run, outputs, _ = recorded
    # A ReLU behind a convolution has channels too.
    for name, axis in (("0", 1), ("1", 1), ("2", -1), ("3", -1), ("4", -1)):
        wanted = expected(outputs[name], axis)
        assert facts(run, name, "activations") == pytest.approx(
            {key: wanted[key] for key in FACTS if "ident" not in key}
        )
    assert run.series("1/inactive_units")["mean"].tolist() == [1 / 6]
    assert run.series("1/constant_units")["mean"].tolist() == [2 / 6]


def test_fractions_of_weights_and_inputs_are_those_of_numpy(recorded: Any) -> None:
    run, outputs, model = recorded
    wanted = expected(model[3].weight, 0)
    assert wanted["identical_units"] == 1 / 5
    found = facts(run, "3.weight", "weights")
    found["identical_units"] = run.series("3.weight/identical_units")["mean"][0]
    assert found == pytest.approx(wanted)
    assert facts(run, "input.0", "inputs")["unit_spread"] == pytest.approx(
        expected(outputs["input.0"], 1)["unit_spread"]
    )


def test_only_weights_tell_of_identical_units_and_vectors_tell_nothing(recorded: Any) -> None:
    run, _, _ = recorded
    assert not [name for name in names(run, "activations") if "identical" in name]
    assert not [name for name in names(run, "biases") if "/" in name]


@pytest.mark.parametrize("settings", [{"include": "^1$"}, {"module_types": ["ReLU"], "exclude": "4"}])
def test_filters_let_what_is_said_of_a_tensor_go_with_it(
    every_step: Callable[..., Monitor], tmp_path: Path, settings: dict[str, Any]
) -> None:
    monitor = every_step(collections={"activations": {"unit_counts": True, **settings}})
    model = network()
    monitor.attach(model)
    model(torch.randn(4, 2, 3, 3))
    monitor.step()
    run = closed(monitor, tmp_path)
    assert names(run, "activations") == ["1", "1/inactive_units", "1/constant_units", "1/unit_spread"]
