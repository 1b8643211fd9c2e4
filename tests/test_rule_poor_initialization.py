"""PoorInitialization."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from rule_models import perceptron, trained
from rule_steps import Bench, normal
from tensometer.rules.poor_initialization import PoorInitialization
from torch import nn

LINEAR = {"module_type": "Linear", "unit_axis": -1}


def deep(scale: float) -> nn.Sequential:
    torch.manual_seed(0)
    layers = [layer for _ in range(6) for layer in (nn.Linear(8, 8), nn.ReLU())]
    for layer in layers:
        if isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight, std=scale)
            nn.init.zeros_(layer.bias)
    return nn.Sequential(*layers, nn.Linear(8, 3))


def he(model: nn.Sequential) -> nn.Sequential:
    for module in model:
        if isinstance(module, nn.Linear):
            nn.init.kaiming_normal_(module.weight)
    return model


@pytest.mark.parametrize(
    ("model", "kinds", "tensor"),
    [
        (lambda: perceptron(nn.ReLU, 2.0), {"gain"}, "0.weight"),
        (lambda: deep(0.02), {"signal"}, "12"),
    ],
)
def test_scales_that_are_too_large_or_too_small(
    tmp_path: Path, model: Callable[[], nn.Module], kinds: set[str], tensor: str
) -> None:
    found = trained(tmp_path, [PoorInitialization()], model(), steps=5)
    assert ({finding.kind for finding in found}, found[0].tensor, found[0].step) == (kinds, tensor, 0)


@pytest.mark.parametrize(
    "model",
    [
        lambda: perceptron(nn.ReLU),
        lambda: he(perceptron(nn.ReLU)),
        lambda: he(deep(1.0)),
        lambda: deep(0.3),
        lambda: perceptron(lambda: nn.Sequential(nn.LayerNorm(24), nn.Tanh()), 0.02),
    ],
)
def test_healthy_runs(tmp_path: Path, model: Callable[[], nn.Module]) -> None:
    assert trained(tmp_path, [PoorInitialization()], model(), steps=5) == []


def test_constant_weights_and_zeros() -> None:
    for constant, kinds in ((0.1, ["constant"]), (0.0, [])):
        weight = normal(8, 8, scale=1e-3) + constant if constant else normal(8, 8, scale=0)
        found = Bench(PoorInitialization(), facts={"a.weight": LINEAR}).step(weights={"a.weight": weight})
        assert [finding.kind for finding in found] == kinds


def test_large_weights_before_a_normalisation() -> None:
    facts = {"a.weight": LINEAR, "a": LINEAR, "b": {"module_type": "BatchNorm1d"}}
    given = {"weights": {"a.weight": normal(8, 64)}, "activations": {"a": normal(4, 8), "b": normal(4, 8)}}
    assert Bench(PoorInitialization(), facts=facts).step(**given) == []
    facts["b"] = {"module_type": "ReLU"}
    assert len(Bench(PoorInitialization(), facts=facts).step(**given)) == 1


def test_only_the_first_step_is_judged() -> None:
    bench = Bench(PoorInitialization(), facts={"a.weight": LINEAR})
    assert bench.step(weights={"a.weight": normal(8, 8)}) == []
    assert bench.step(weights={"a.weight": normal(8, 8, scale=9)}) == []
