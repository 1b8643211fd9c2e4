"""AttentionCollapse."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from rule_steps import Bench, normal
from tensometer.rules.attention_collapse import AttentionCollapse

Array = npt.NDArray[Any]
FACTS = {
    "a": {"module_type": "Softmax"},
    "m.1": {"module_type": "MultiheadAttention"},
    "m.0": {"module_type": "MultiheadAttention"},
}


def softmax(logits: Array, *, causal: bool = False) -> Array:
    if causal:
        logits = np.where(np.tri(logits.shape[-1], dtype=bool), logits, -1e9)
    weights: Array = np.exp(logits - logits.max(axis=-1, keepdims=True))
    weights /= weights.sum(axis=-1, keepdims=True)
    return weights


def found(count: int, weights: Array, name: str = "a", *, last: bool = False) -> list[tuple[str, str, int]]:
    rows = {name: weights} if last else {name: weights, "z": normal(4, 8)}
    findings = Bench(AttentionCollapse(), facts=FACTS).steps(count, activations=rows)
    return [(finding.kind, finding.severity.label, finding.step) for finding in findings]


@pytest.mark.parametrize("name", ["a", "m.1"])
def test_one_key_for_each_query(name: str) -> None:
    logits = normal(2, 16, 16, scale=100.0)
    assert found(5, softmax(logits), name) == [("single", "warning", 2)]
    assert found(5, softmax(logits, causal=True), name) == [("single", "warning", 2)]


def test_attention_that_is_sharp_or_causal_is_healthy() -> None:
    assert found(5, softmax(normal(2, 16, 16, scale=3.0))) == []
    assert found(120, softmax(normal(2, 16, 16, scale=0.01), causal=True)) == []


def test_what_is_no_attention() -> None:
    certain = softmax(normal(2, 16, 16, scale=100.0))
    assert found(5, certain[0]) == []  # classes
    assert found(5, certain, last=True) == []
    assert found(5, certain, "m.0") == []  # values
    assert found(5, softmax(normal(2, 16, 3, scale=1000.0))) == []


def test_all_keys_alike_is_told_after_a_hundred_steps() -> None:
    assert found(120, softmax(normal(2, 16, 16, scale=1e-3))) == [("uniform", "info", 99)]
