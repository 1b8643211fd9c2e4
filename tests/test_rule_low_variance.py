"""LowVariance."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from rule_models import blobs, perceptron, trained
from rule_steps import Bench, normal
from tensometer.rules.low_variance import LowVariance
from torch import nn

Floats = npt.NDArray[Any]
SAME = np.tile(normal(1, 6), (8, 1))


def step(inputs: dict[str, Floats], **outputs: Floats) -> dict[str, Any]:
    """Rows as a monitor captures them."""

    def rows(tensors: dict[str, Floats]) -> dict[str, Any]:
        spreads = {f"{name}/unit_spread": np.sqrt(one.var(axis=0).mean()) for name, one in tensors.items()}
        return {**tensors, **spreads}

    return {"inputs": rows(inputs), "activations": rows(outputs)}


def bench() -> Bench:
    return Bench(LowVariance(), facts={name: {"unit_axis": 1} for name in "abc"} | {"input.0": {"unit_axis": 1}})


def test_outputs_are_named_from_the_first_that_stays_the_same() -> None:
    given = step({"input.0": normal(8, 6)}, a=normal(8, 6), b=SAME, c=SAME)
    one = bench()
    assert one.steps(2, **given) == []
    (finding,) = one.steps(5, **given)
    assert (finding.tensor, finding.others, finding.step, finding.kind) == ("b", ("c",), 2, "outputs")


def test_constant_inputs_are_named_instead() -> None:
    (finding,) = bench().steps(5, **step({"input.0": SAME}, a=SAME, b=SAME))
    assert (finding.tensor, finding.kind) == ("input.0", "inputs")


@pytest.mark.parametrize(
    "given",
    [
        step({"input.0": normal(8, 6)}, a=SAME, b=normal(8, 6)),  # a constant part of the model
        step({"input.0": normal(8, 6), "input.mask": SAME}, a=normal(8, 6)),
        step({"input.0": normal(1, 6)}, a=normal(1, 6)),  # one sample
    ],
)
def test_healthy_steps(given: dict[str, Any]) -> None:
    assert bench().steps(20, **given) == []


def test_a_training_that_says_the_same_of_all(tmp_path: Path) -> None:
    model = perceptron(nn.ReLU)
    nn.init.zeros_(model[4].weight)
    assert trained(tmp_path / "head", [LowVariance()], model) == []
    model = perceptron(nn.ReLU)
    nn.init.constant_(model[0].bias, -100.0)
    found = trained(tmp_path / "dead", [LowVariance()], model)
    assert [finding.tensor for finding in found] == ["1"]
    x, y = blobs()
    same = x[:1].expand_as(x), y
    found = trained(tmp_path / "same", [LowVariance()], perceptron(nn.ReLU), data=same)
    assert [finding.tensor for finding in found] == ["input.0"]
    assert torch.equal(same[0][0], same[0][1])
