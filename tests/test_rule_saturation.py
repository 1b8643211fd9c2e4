"""TanhSaturation and SigmoidSaturation."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from rule_models import perceptron, trained
from rule_steps import Bench, normal
from tensometer.rules import Rule
from tensometer.rules.sigmoid_saturation import SigmoidSaturation
from tensometer.rules.tanh_saturation import TanhSaturation
from torch import nn

Floats = npt.NDArray[Any]


def sigmoid(x: Floats) -> Floats:
    return 0.5 * (1 + np.tanh(x / 2))


KINDS = [(TanhSaturation, np.tanh, "Tanh"), (SigmoidSaturation, sigmoid, "Sigmoid")]


@pytest.mark.parametrize(("rule", "function", "kind"), KINDS)
def test_scales_that_saturate(rule: type[Rule], function: Callable[[Floats], Floats], kind: str) -> None:
    facts = {"a": {"module_type": kind}, "b": {"module_type": "Linear"}, "c": {"module_type": kind}}
    y = normal(64, 32)

    def judged(scale: float) -> list[str]:
        bench = Bench(rule(), facts=facts)
        rows = {"a": function(y), "b": y, "c": function(200 * y)}  # c is the output: it may
        found = bench.steps(5, activations=rows) + bench.steps(5, activations={**rows, "a": function(scale * y)})
        return [finding.tensor for finding in found]

    assert judged(200) == ["a"]
    assert judged(4) == []


@pytest.mark.parametrize(("rule", "function", "kind"), KINDS)
def test_a_solved_problem_may_saturate(rule: type[Rule], function: Callable[[Floats], Floats], kind: str) -> None:
    bench = Bench(rule(), facts={"a": {"module_type": kind}, "b": {"module_type": "Linear"}})
    y = normal(64, 32)
    bench.step(activations={"a": function(y), "b": y}, losses={"loss": 2.0})
    bench.steps(60, activations={"a": function(y), "b": y}, losses={"loss": 0.001})
    assert bench.steps(5, activations={"a": function(200 * y), "b": y}, losses={"loss": 0.001}) == []


def test_gates_may_be_shut() -> None:
    facts = {name: {"module_type": "Sigmoid"} for name in ("block.gate", "attention")} | {
        "b": {"module_type": "Linear"}
    }
    bench = Bench(SigmoidSaturation(), facts=facts)
    rows = {"block.gate": np.zeros((4, 8)), "attention": np.zeros((4, 1)), "b": normal(4, 8)}
    assert bench.steps(5, activations=rows) == []


def test_weights_that_are_too_large_and_the_twin(tmp_path: Path) -> None:
    for scale, found in ((4.0, ["1"]), (None, [])):
        findings = trained(tmp_path / str(scale), [TanhSaturation()], perceptron(nn.Tanh, scale))
        assert [finding.tensor for finding in findings] == found
    findings = trained(tmp_path / "sigmoid", [SigmoidSaturation()], perceptron(nn.Sigmoid, 30.0))
    assert [finding.tensor for finding in findings] == ["1"]
    assert trained(tmp_path / "sigmoid_twin", [SigmoidSaturation()], perceptron(nn.Sigmoid), steps=60) == []


def test_sigmoids_that_begin_beyond_their_edge_on_both_sides() -> None:
    def judged(derivative: float, mean: float) -> list[int]:
        # Values y and 1 - y in such shares that their mean is as given: each has the same derivative y (1 - y).
        y = 0.5 - (0.25 - derivative / 4) ** 0.5
        low = round(1000 * (1 - y - mean) / (1 - 2 * y))
        values = np.array([y] * low + [1 - y] * (1000 - low)).reshape(100, 10)
        bench = Bench(SigmoidSaturation(), facts={"a": {"module_type": "Sigmoid"}, "b": {"module_type": "Linear"}})
        return [one.step for one in bench.steps(3, activations={"a": values, "b": normal(100, 10)})]

    assert judged(0.14, mean=0.5) == [1]
    assert judged(0.16, mean=0.5) == []
    assert judged(0.14, mean=0.08) == []  # shut by a bias
