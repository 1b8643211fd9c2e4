"""DyingReLU."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rule_models import perceptron, trained
from rule_steps import Bench, normal
from tensometer.rules.dying_relu import DyingReLU
from torch import nn

GRADIENT = {"a.weight": normal(8, 8)}


def bench(kind: str = "ReLU", **settings: Any) -> Bench:
    facts = {"a": {"module_type": "Linear", "unit_axis": -1}, "b": {"module_type": kind, "unit_axis": -1}}
    return Bench(DyingReLU(**settings), facts={**facts, "c": facts["a"]})


def step(inactive: float, samples: int = 32) -> dict[str, Any]:
    rows = {"a": normal(samples, 16), "b": np.abs(normal(samples, 16)), "c": normal(samples, 3)}
    rows |= {"a/inactive_units": np.array(inactive), "b/inactive_units": np.array(inactive)}
    return {"activations": rows, "gradients": GRADIENT}


def test_dead_units_are_found_at_the_third_step() -> None:
    one = bench()
    assert one.steps(2, **step(0.75)) == []
    (finding,) = one.steps(5, **step(0.75))
    assert (finding.tensor, finding.step, finding.value) == ("b", 2, 0.75)


@pytest.mark.parametrize(("inactive", "samples"), [(0.5, 32), (0.75, 8)])
def test_some_dead_units_and_small_batches_are_none(inactive: float, samples: int) -> None:
    assert bench().steps(20, **step(inactive, samples)) == []


def test_of_a_narrow_layer_all_must_be_dead() -> None:
    for inactive, found in ((0.75, 0), (1.0, 1)):
        given = step(inactive)
        given["activations"] |= {"a": normal(32, 8), "b": np.abs(normal(32, 8))}
        assert len(bench().steps(5, **given)) == found


def test_units_that_come_back_are_none() -> None:
    one = bench()
    for _ in range(5):
        assert one.steps(2, **step(0.9)) + one.step(**step(0.4)) == []


def test_of_functional_ones_the_gradient_must_be_zero_too() -> None:
    one = bench("Dropout")
    assert one.steps(5, **step(0.75)) == []
    gradient = normal(8, 8)
    gradient[:6] = 0
    (finding,) = one.steps(5, **{**step(0.75), "gradients": {"a.weight": gradient}})
    assert (finding.tensor, finding.kind) == ("a", "functional")


def test_a_training_whose_units_die_and_its_twin(tmp_path: Path) -> None:
    assert trained(tmp_path / "twin", [DyingReLU()], perceptron(nn.ReLU)) == []
    model = perceptron(nn.ReLU)
    with torch.no_grad():
        model[2].bias.fill_(-20)
    (finding,) = trained(tmp_path / "fault", [DyingReLU()], model)
    assert (finding.rule, finding.tensor, finding.step) == ("DyingReLU", "3", 2)


def test_dropout_behind_a_relu_is_healthy(tmp_path: Path) -> None:
    assert trained(tmp_path, [DyingReLU()], perceptron(lambda: nn.Sequential(nn.ReLU(), nn.Dropout(0.8)))) == []
