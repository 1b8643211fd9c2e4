"""UpdatesTooSmall."""

from collections.abc import Sequence

from rule_networks import TRAINED, rate
from rule_steps import Bench, normal
from tensometer.rules.updates_too_small import UpdatesTooSmall


def found(ratios: Sequence[float], rates: Sequence[float], losses: Sequence[float] = ()) -> list[tuple[str, int]]:
    bench, findings, weight = Bench(UpdatesTooSmall(), facts={"a.weight": TRAINED}), [], normal(8, 8)
    for at, (ratio, learning_rate) in enumerate(zip(ratios, rates, strict=True)):
        findings += bench.step(
            weights={"a.weight": weight},
            gradients={"a.weight": weight},
            updates={"a.weight": ratio * weight},
            loop=rate(learning_rate),
            losses={"loss": losses[at] if losses else 1.0},
        )
    return [(one.kind, one.step) for one in findings]


def test_updates_of_nothing_are_found_at_the_third_step() -> None:
    assert found([9e-7] * 10, [0.1] * 10) == [("", 2)]
    assert found([2e-6] * 10, [0.1] * 10) == []


def test_a_rate_of_zero_is_found_at_the_fifth_step_and_a_warm_up_is_healthy() -> None:
    assert found([0.0] * 10, [0.0] * 10) == [("", 4)]
    assert found([0.0] * 10, [1e-9 * step for step in range(10)]) == []
    assert found([1e-3, *[0.0] * 8], [0.1, *[0.0] * 8]) == []  # decayed to nothing


def test_a_rate_that_has_decayed_for_a_quarter_of_the_run() -> None:
    rates = [0.1] * 20 + [1e-7] * 12
    assert found([1e-3] * 32, rates) == [("decayed", 29)]
    assert found([1e-3] * 32, [0.1] * 20 + [1e-5] * 12) == []
    assert found([1e-3] * 92, [0.1] * 80 + [1e-7] * 12) == []
    assert found([1e-3] * 112, [0.1] * 70 + [1e-7] * 42, [1.0] * 10 + [1e-4] * 102) == []  # solved
