"""ExpertCollapse."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from rule_steps import Bench, normal
from tensometer.rules.expert_collapse import ExpertCollapse

Array = npt.NDArray[Any]
LOGITS = normal(64, 4, seed=1)
FAVOURITE = np.array([8, 0, 0, 0], np.float32)


def shares(logits: Array) -> Array:
    odds = np.exp(logits)
    found: Array = odds / odds.sum(axis=1, keepdims=True)
    return found


def found(name: str, kind: str, x: Array, *, other: str = "experts.0") -> list[tuple[str, int]]:
    rows = {name: x, f"{name}/unit_spread": np.sqrt(x.var(axis=0).mean()), other: normal(64, 8)}
    bench = Bench(ExpertCollapse(), facts={name: {"module_type": kind}})
    return [(finding.kind, finding.step) for finding in bench.steps(5, activations=rows)]


@pytest.mark.parametrize("name", ["router", "block.0.gate", "moe.gate.1"])
def test_one_expert_for_everything(name: str) -> None:
    assert found(name, "Softmax", shares(LOGITS + FAVOURITE)) == [("shares", 2)]
    assert found(name, "Linear", LOGITS * 0.3 + FAVOURITE) == [("logits", 2)]


def test_routers_that_tell_samples_apart_are_healthy() -> None:
    assert found("router", "Softmax", shares(10 * LOGITS)) == []
    assert found("router", "Linear", 10 * LOGITS) == []
    assert found("router", "Linear", 10 * LOGITS + FAVOURITE) == []


def test_what_is_no_router() -> None:
    assert found("gate_proj", "Linear", LOGITS * 0.3 + FAVOURITE) == []
    assert found("router", "Linear", LOGITS * 0.3 + FAVOURITE, other="head") == []
