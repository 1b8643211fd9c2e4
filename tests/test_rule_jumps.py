"""BadStep and LossSpike: a bad batch is over with the next step, another task is not."""

from collections.abc import Sequence

from rule_steps import Bench, names, normal
from tensometer.rules.bad_step import BadStep
from tensometer.rules.loss_spike import LossSpike

STEADY = [2.0, *(0.5 + 0.01 * (step % 3) for step in range(29))]


def found(losses: Sequence[float], every: int = 1) -> list[tuple[str, int]]:
    """Rules and steps of the findings; gradients are in proportion to losses."""
    bench, all_found = Bench(BadStep(), LossSpike()), []
    for at, loss in enumerate(losses):
        rows = {"losses": {"loss": loss}, "gradients": {"a.weight": normal(8, 8, scale=loss)}}
        all_found += bench.step(**rows, at=every * at)
    return [(rule, one.step) for rule, one in zip(names(all_found), all_found, strict=True)]


def test_a_batch_that_is_bad_is_told_a_step_later() -> None:
    assert sorted(found([*STEADY, 9.0, 0.52, 0.5])) == [("BadStep", 31), ("LossSpike", 31)]


def test_another_task_is_healthy() -> None:
    assert found([*STEADY, 9.0, 6.5, 5.0, 3.1, 2.0, 1.5, 1.2, 1.0, 0.9, 0.8, 0.7]) == []


def test_how_far_a_loss_must_come_back() -> None:
    def two_steps_later(left: float, every: int = 1) -> list[str]:
        level = 0.51
        return [rule for rule, _ in found([*STEADY, 9.0, level + left * (9.0 - level), 2.0, 1.0], every)]

    assert two_steps_later(0.24) == ["BadStep", "LossSpike"]
    assert two_steps_later(0.26) == []  # it learns another task
    assert two_steps_later(0.024, every=10) == ["BadStep", "LossSpike"]
    assert two_steps_later(0.026, every=10) == []


def test_how_large_a_jump_must_be() -> None:
    steady = [*STEADY, 0.5]  # the first loss is out of the window
    assert sorted(found([*steady, 2.02, 0.52, 0.5])) == [("BadStep", 32), ("LossSpike", 32)]
    assert found([*steady, 1.98, 0.52, 0.5]) == [("LossSpike", 32)]  # no worse than at the beginning
    assert found([*steady, 1.45, 0.52, 0.5]) == []  # a hard batch: less than half of the first loss above the others


def test_an_input_that_is_out_of_range_whatever_the_loss_says() -> None:
    def judged(largest: float) -> list[tuple[str, int]]:
        bench, all_found = Bench(BadStep()), []
        for size in [1.0] * 12 + [largest, 1.0]:
            inputs = {"x": [size, 0.0]}
            all_found += bench.step(losses={"loss": 1.0}, gradients={"a.weight": normal(8, 8)}, inputs=inputs)
        return [(one.kind, one.step) for one in all_found]

    assert judged(31.0) == [("input", 12)]
    assert judged(29.0) == []
