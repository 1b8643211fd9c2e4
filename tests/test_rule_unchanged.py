"""Unchanged."""

from typing import Any

from rule_networks import FROZEN, LEFT_OUT, TRAINED, rate
from rule_steps import Bench, normal
from tensometer.rules.unchanged import Unchanged

WEIGHT = {"a.weight": normal(8, 8)}
LOSS = {"loss": 1.0}


def found(count: int, facts: Any = TRAINED, **given: Any) -> list[tuple[str, int]]:
    bench = Bench(Unchanged(), facts={"a.weight": facts})
    return [(one.kind, one.step) for one in bench.steps(count, weights=WEIGHT, losses=LOSS, **given)]


def test_a_weight_with_a_gradient_that_stays() -> None:
    assert found(10, gradients=WEIGHT, loop=rate(0.1)) == [("still", 4)]
    assert found(10, FROZEN, gradients=WEIGHT, loop=rate(0.1)) == []
    assert found(10, LEFT_OUT, gradients=WEIGHT, loop=rate(0.1)) == []
    assert found(10, gradients=WEIGHT, loop={"learning_rate/0": 0.1, "optimizer_steps": 0.0}) == []


def test_a_training_without_any_gradient() -> None:
    none = {"a.weight": 0 * WEIGHT["a.weight"]}
    assert found(10, gradients=none, loop=rate(0.1)) == [("nothing", 4)]
    assert found(10, gradients=none, loop=rate(0.0)) == []


def test_an_optimizer_that_never_steps() -> None:
    idle = {"learning_rate/0": 0.1, "optimizer_steps": 0.0}
    assert found(40, gradients=WEIGHT, loop=idle) == [("idle", 32)]
    bench = Bench(Unchanged(), facts={"a.weight": TRAINED})
    bench.step(weights={"a.weight": normal(8, 8, seed=1)}, loop=rate(0.1))
    assert bench.steps(31, weights=WEIGHT, gradients=WEIGHT, loop=idle) == []


def test_an_optimizer_that_has_stopped() -> None:
    def stops(period: int, count: int, *, trains: bool = True) -> list[tuple[str, int]]:
        """Of one that stepped at every so many steps, five times, and then was idle for a count of steps."""
        bench, findings = Bench(Unchanged(), facts={"a.weight": TRAINED}), []
        for step in range(5 * period + count):
            steps = step < 5 * period and step % period == 0
            weights = {"a.weight": normal(8, 8, seed=min(step // period, 4))}
            loop = {"learning_rate/0": 0.1, "optimizer_steps": float(steps)}
            inputs = {"inputs": {"input.0": normal(8, 4)}} if trains else {}
            findings += bench.step(weights=weights, losses={"loss": 1.0}, loop=loop, **inputs)
        return [(one.kind, one.step) for one in findings]

    assert stops(1, 70) == [("stopped", 68)]
    assert stops(1, 70, trains=False) == []
    assert stops(20, 56) == []  # 75 steps without an update, of 19 between two
    assert stops(20, 60) == [("stopped", 156)]


def test_an_evaluation_in_between_is_no_optimizer_that_has_stopped() -> None:
    bench = Bench(Unchanged(), facts={"a.weight": TRAINED})
    idle = {"learning_rate/0": 0.1, "optimizer_steps": 0.0}
    for step in range(100):
        given = {"weights": {"a.weight": normal(8, 8, seed=step // 4 if step < 10 else 2)}, "losses": {"loss": 1.0}}
        inputs = {} if 10 <= step < 90 else {"inputs": {"input.0": normal(8, 4)}}
        assert bench.step(loop=rate(0.1) if step % 4 == 0 and step < 10 else idle, **given, **inputs) == []
