"""GradientSpike."""

import math

import numpy as np
from rule_steps import Bench, normal
from tensometer.rules.gradient_spike import GradientSpike


def course(scales: list[float]) -> list[int]:
    bench, found = Bench(GradientSpike()), []
    for at, scale in enumerate(scales):
        found += bench.step(gradients={"a.weight": normal(8, 8, scale=scale, seed=at)})
    return [one.step for one in found]


def test_a_jump_is_found_at_its_step() -> None:
    assert course([1.0] * 12 + [30.0] + [1.0] * 5) == [12]


def test_the_first_steps_are_not_judged() -> None:
    assert course([1.0, 1.0, 50.0, 1.0, 1.0]) == []


def test_a_plateau_that_is_left_is_healthy() -> None:
    assert course([1.0] * 12 + [2.0, 4.0, 8.0, 16.0, 32.0]) == []


def test_a_solved_problem_is_healthy() -> None:
    assert course([1.0, 1.0, 0.5] + [1e-3] * 20 + [0.5] + [1e-3] * 5) == []


def test_heavy_tails_are_healthy() -> None:
    generator = np.random.default_rng(0)
    assert course(np.exp(1.2 * generator.standard_normal(200)).tolist()) == []


def test_what_is_not_finite_or_nothing_is_not_judged() -> None:
    assert course([1.0] * 12 + [0.0, math.inf, 1.0]) == []


def test_how_large_a_jump_must_be() -> None:
    def judged(factor: float) -> list[int]:
        bench = Bench(GradientSpike())
        found = bench.steps(12, gradients={"a.weight": normal(8, 8)})
        return [one.step for one in found + bench.step(gradients={"a.weight": normal(8, 8, scale=factor)})]

    assert judged(15.5) == [12]
    assert judged(14.5) == []
