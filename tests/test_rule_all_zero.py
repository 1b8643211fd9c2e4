"""AllZero."""

import numpy as np
import pytest
from rule_steps import Bench, normal
from tensometer.rules.all_zero import AllZero

ZERO = np.zeros((4, 8), np.float32)


def test_zero_outputs_are_found_at_the_third_step_and_told_once() -> None:
    bench = Bench(AllZero())
    assert bench.steps(2, activations={"a": ZERO, "b": normal(4, 8)}) == []
    (finding,) = bench.steps(20, activations={"a": ZERO, "b": normal(4, 8)})
    assert (finding.tensor, finding.step, finding.window) == ("a", 2, (0, 2))
    assert finding.sentence == "a is zero: 100% of its elements"


def test_a_zero_batch_now_and_then_is_none() -> None:
    bench = Bench(AllZero())
    for _ in range(5):
        assert bench.steps(2, activations={"a": ZERO}) == []
        assert bench.step(activations={"a": normal(4, 8)}) == []


@pytest.mark.parametrize("share", [-1.0, "much", True])
def test_wrong_thresholds_name_the_setting(share: object) -> None:
    with pytest.raises((TypeError, ValueError), match=r"AllZero\.share: "):
        AllZero(share=share)  # type: ignore[arg-type]
