"""CollapsedOutput."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rule_models import blobs, perceptron, trained
from rule_steps import Bench, normal
from tensometer.rules.collapsed_output import CollapsedOutput
from torch import nn

CLASSES = np.arange(32) % 3
FACTS = {"prediction": {"module_type": "CrossEntropyLoss"}}


def step(predictions: Any, labels: Any, **loop: float) -> dict[str, Any]:
    rate = {"learning_rate/0": 0.1, "optimizer_steps": 1}
    return {"predictions": {"prediction": predictions}, "labels": {"label": labels}, "loop": {**rate, **loop}}


def found(*steps: dict[str, Any], facts: Any = FACTS) -> list[tuple[str, int]]:
    bench = Bench(CollapsedOutput(), facts=facts)
    return [(finding.kind, finding.step) for one in steps for finding in bench.step(**one)]


def test_a_spread_that_does_not_grow_and_one_that_does() -> None:
    small = normal(32, 1, scale=0.0005)
    target = normal(32, 1)
    assert found(*[step(small, target)] * 25) == [("spread", 19)]
    assert found(*[step(small * 1.1**at, target) for at in range(25)]) == []
    assert found(*[step(small, target, **{"learning_rate/0": 0.0})] * 25) == []
    assert found(*[step(small, target * 0)] * 25) == []


def test_constant_predictions_are_found_at_the_third_step() -> None:
    assert found(*[step(np.full((32, 3), 0.3), CLASSES)] * 5) == [("constant", 2)]


def test_probabilities_for_cross_entropy() -> None:
    odds = np.exp(normal(32, 3).astype(np.float64))
    probabilities = odds / odds.sum(axis=1, keepdims=True)
    assert found(*[step(probabilities, CLASSES)] * 5) == [("probabilities", 1)]
    assert found(*[step(np.log(probabilities), CLASSES)] * 5) == []
    assert found(*[step(probabilities, CLASSES)] * 5, facts={}) == []  # a loss of one's own


def test_probabilities_for_binary_cross_entropy_that_takes_logits() -> None:
    logits, labels = normal(32, 1), (np.arange(32) % 2).astype(np.float32)[:, None]
    of_logits = {"prediction": {"module_type": "BCEWithLogitsLoss"}}
    sigmoid = (1 / (1 + np.exp(-3 * logits))).astype(np.float32)
    assert found(*[step(sigmoid, labels)] * 12, facts=of_logits) == [("logits", 9)]
    assert found(*[step(sigmoid - 0.3, labels)] * 12, facts=of_logits) == []
    assert found(*[step(0.4 * sigmoid, labels)] * 12, facts=of_logits) == []  # logits that are small yet
    assert found(*[step(sigmoid, labels)] * 12, facts={"prediction": {"module_type": "BCELoss"}}) == []


def test_what_is_no_logarithm_for_the_negative_log_likelihood() -> None:
    facts = {"prediction": {"module_type": "NLLLoss"}}
    logits = normal(32, 3)
    odds = np.exp(logits)
    probabilities = odds / odds.sum(axis=1, keepdims=True)
    assert found(*[step(logits, CLASSES)] * 4, facts=facts) == [("logarithms", 1)]
    assert found(*[step(probabilities, CLASSES)] * 4, facts=facts) == [("logarithms", 1)]
    assert found(*[step(np.log(probabilities), CLASSES)] * 4, facts=facts) == []


def test_targets_beyond_what_a_sigmoid_reaches() -> None:
    facts = {"prediction": {"module_type": "MSELoss"}}
    outputs, targets = np.linspace(0.5, 0.99, 32, dtype=np.float32)[:, None], normal(32, 1, scale=9)
    assert found(*[step(outputs, targets)] * 12, facts=facts) == [("bounded", 9)]
    assert found(*[step(outputs, 0.05 * targets)] * 12, facts=facts) == []
    assert found(*[step(outputs * (0.9 + 0.05 * at), targets) for at in range(12)], facts=facts) == []


@pytest.mark.parametrize(
    ("one", "other", "wrong"),
    [((32, 1), (32,), True), ((32, 1), (32, 1), False), ((32,), (32,), False), ((32, 1), (1,), False)],
)
def test_shapes_that_are_stretched(one: tuple[int, ...], other: tuple[int, ...], wrong: bool) -> None:
    assert found(step(normal(*one), normal(*other, seed=1))) == ([("broadcast", 0)] if wrong else [])


@pytest.mark.filterwarnings("ignore:Using a target size")
@pytest.mark.parametrize(
    ("last", "shape", "loss", "kinds"),
    [
        (nn.Identity, (256, 1), nn.MSELoss, []),
        (nn.Identity, (256,), nn.MSELoss, ["broadcast"]),
        (lambda: nn.Softmax(1), None, nn.CrossEntropyLoss, ["probabilities"]),
        (nn.Identity, None, nn.CrossEntropyLoss, []),
    ],
)
def test_trainings(
    tmp_path: Path,
    last: Callable[[], nn.Module],
    shape: tuple[int, ...] | None,
    loss: Callable[[], nn.Module],
    kinds: list[str],
) -> None:
    x, y = blobs()
    model = perceptron(nn.ReLU)
    if shape is not None:
        model.append(nn.Linear(3, 1))
        y = y.float().reshape(shape)
    model.append(last())
    torch.manual_seed(0)
    findings = trained(tmp_path, [CollapsedOutput()], model, data=(x, y), loss=loss())
    assert [finding.kind for finding in findings] == kinds


def test_how_small_a_spread_must_be() -> None:
    target, spread = normal(32, 1), normal(32, 1)
    for scale, expected in ((0.0018, [("spread", 19)]), (0.0022, [])):
        assert found(*[step(spread / spread.std() * target.std() * scale, target)] * 25) == expected
    assert found(*[step(np.full((32, 3), 0.3), CLASSES * 0)] * 5) == []  # targets do not differ either
