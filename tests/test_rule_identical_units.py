"""IdenticalUnits."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rule_models import perceptron, trained
from rule_steps import Bench, normal
from tensometer.rules.identical_units import IdenticalUnits
from torch import nn

RATE = {"learning_rate/0": 0.1, "optimizer_steps": 1}


def step(share: float, weight: Any = None, **loop: float) -> dict[str, Any]:
    weights = {"a.weight": normal(8, 8) if weight is None else weight, "a.weight/identical_units": np.array(share)}
    return {"weights": weights, "loop": {**RATE, **loop}}


def bench(**facts: Any) -> Bench:
    return Bench(IdenticalUnits(), facts={"a.weight": {"module_type": "Linear", "requires_grad": True, **facts}})


def test_copies_are_found_at_the_second_step() -> None:
    one = bench()
    assert one.step(**step(7 / 8)) == []
    (finding,) = one.steps(5, **step(7 / 8))
    assert (finding.tensor, finding.step, finding.kind) == ("a.weight", 1, "identical")


@pytest.mark.parametrize("facts", [{"requires_grad": False}, {"module_type": "Embedding"}])
def test_frozen_weights_and_tables_are_none(facts: dict[str, Any]) -> None:
    assert bench(**facts).steps(5, **step(7 / 8)) == []


def test_small_rows_and_steps_without_an_update_are_none() -> None:
    assert bench().steps(5, **step(7 / 8, normal(8, 2))) == []
    assert bench().steps(5, **step(7 / 8, **{"learning_rate/0": 0.0})) == []
    assert bench().steps(5, **step(7 / 8, optimizer_steps=0)) == []


def test_a_layer_of_zeros_is_stuck_without_a_gradient_alone() -> None:
    zero = np.zeros((8, 8))
    head = {"b.weight": normal(8, 8)}
    assert bench().steps(5, **step(0, zero), gradients={"a.weight": normal(8, 8), **head}) == []
    assert bench().steps(5, **step(0, zero), gradients={"a.weight": zero}) == []
    (finding,) = bench().steps(5, **step(0, zero), gradients={"a.weight": zero, **head})
    assert (finding.tensor, finding.step, finding.kind) == ("a.weight", 2, "stuck")


@pytest.mark.parametrize(("constant", "kind"), [(0.1, "identical"), (0.0, "stuck")])
def test_a_constant_initialisation(tmp_path: Path, constant: float, kind: str) -> None:
    model = perceptron(nn.ReLU)
    for module in model:
        if isinstance(module, nn.Linear):
            nn.init.constant_(module.weight, constant)
            nn.init.zeros_(module.bias)
    found = trained(tmp_path, [IdenticalUnits()], model)
    assert {finding.kind for finding in found} == {kind}
    assert found[0].tensor == "0.weight"


def test_healthy_runs(tmp_path: Path) -> None:
    class Adapted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.base, self.down, self.up = nn.Linear(8, 8), nn.Linear(8, 4), nn.Linear(4, 8)
            self.base.requires_grad_(False)
            nn.init.zeros_(self.up.weight)
            nn.init.zeros_(self.up.bias)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            output: torch.Tensor = self.base(x) + self.up(self.down(x))
            return output

    head = perceptron(nn.ReLU)
    nn.init.zeros_(head[4].weight)
    for name, model in {"adapted": Adapted(), "head": head, "plain": perceptron(nn.Tanh)}.items():
        assert trained(tmp_path / name, [IdenticalUnits()], model) == []
