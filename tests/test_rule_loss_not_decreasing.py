"""LossNotDecreasing."""

from collections.abc import Sequence

from rule_networks import rate
from rule_steps import Bench
from tensometer.rules.loss_not_decreasing import LossNotDecreasing

START = [1.0] * 5


def found(losses: Sequence[float], first: int = 0) -> list[tuple[str, int]]:
    bench, findings = Bench(LossNotDecreasing()), []
    for at, loss in enumerate(losses):
        findings += bench.step(losses={"loss": loss}, loop=rate(0.1), at=first + at)
    return [(one.kind, one.step) for one in findings]


def test_a_loss_above_three_times_its_start_eight_times_in_a_row() -> None:
    assert found([*START, *[3.1] * 8]) == [("rising", 12)]
    assert found([*START, *[2.9] * 30]) == []
    assert found([*START, *[3.1] * 7, 1.0] * 3) == []


def test_a_lower_rise_counts_if_it_is_steady() -> None:
    assert found([1 + 0.02 * max(step - 4, 0) for step in range(60)])[0][0] == "rising"
    assert found([*START, *[1.8, 1.6, 1.7] * 20]) == []


def test_a_loss_that_stays_where_it_began() -> None:
    assert found([1.0] * 110) == [("flat", 99)]
    assert found([1 - 0.0005 * step for step in range(110)]) == []
    assert found([*[1.0] * 30, *[0.985] * 100]) == []  # a plateau after it has fallen
    assert found([1.0] * 110, first=1000) == []  # it goes on from a checkpoint
