"""WeightGrowth and WeightCollapse, and UpdatesTooLarge: what an optimizer does to the size of weights."""

import numpy as np
from rule_steps import Bench, normal
from tensometer.rules.updates_too_large import UpdatesTooLarge
from tensometer.rules.weight_collapse import WeightCollapse
from tensometer.rules.weight_growth import WeightGrowth

FACTS = {name: {"requires_grad": True, "optimizer": 0} for name in ("a.weight", "b.weight")}


def moved(rule: WeightGrowth | WeightCollapse, factor: float, turns: float, first: float = 1.0) -> list[int]:
    """The steps of findings where a weight is multiplied at each step, and turned by a part of its size."""
    bench, weight, found = Bench(rule, facts=FACTS), normal(8, 64, scale=first), []
    for step in range(30):
        update = weight * (factor - 1) + normal(8, 64, seed=step + 1) * np.float32(turns * weight.std())
        weight = weight + update
        found += bench.step(weights={"a.weight": weight}, updates={"a.weight": update})
    return [one.step for one in found]


def test_a_decay_of_the_wrong_sign_is_found() -> None:
    assert moved(WeightGrowth(), 1.05, turns=0.01) == [16]


def test_a_single_layer_that_grows_learns_a_scale() -> None:
    def judged(still: int) -> list[int]:
        names = ["a.weight", *(f"other{at}.weight" for at in range(still))]
        bench, found = Bench(WeightGrowth(), facts=dict.fromkeys(names, FACTS["a.weight"])), []
        for step in range(20):
            weights = {name: normal(8, 64) for name in names}
            weights["a.weight"] = normal(8, 64) * np.float32(1.05**step)
            updates = {name: normal(8, 64, scale=1e-3, seed=step) for name in names}
            updates["a.weight"] = weights["a.weight"] * np.float32(0.05 / 1.05)
            found += bench.step(weights=weights, updates=updates)
        return [one.step for one in found]

    assert judged(still=0) == [16]
    assert judged(still=1) == []


def test_a_weight_that_grows_as_it_is_turned_learns() -> None:
    assert moved(WeightGrowth(), 1.05, turns=0.07) == []


def test_a_weight_that_does_not_change_does_not_grow() -> None:
    assert moved(WeightGrowth(), 1.0, turns=0.0) == []


def test_a_decay_that_is_too_strong_is_found() -> None:
    assert moved(WeightCollapse(), 0.9, turns=0.01) == [4]


def test_a_weight_that_was_thrown_out_finds_back() -> None:
    bench = Bench(WeightCollapse(), facts=FACTS)
    for size in (1.0, 4.0, *(4 * 0.9**step for step in range(12))):
        assert bench.step(weights={"a.weight": normal(8, 64, scale=size)}) == []


def replaced(
    ratio: float, *, losses: list[float], names: tuple[str, ...] = tuple(FACTS), steps: float = 1
) -> list[int]:
    """The steps of findings where updates are so large beside the weights of unit size."""
    bench, found = Bench(UpdatesTooLarge(), facts=FACTS), []
    for loss in losses:
        rows = {
            "weights": dict.fromkeys(names, normal(8, 64)),
            "losses": {"loss": loss},
            "loop": {"optimizer_steps": steps},
        }
        found += bench.step(updates=dict.fromkeys(names, normal(8, 64, scale=ratio, seed=1)), **rows)
    return [one.step for one in found]


def test_weights_that_are_replaced_are_found() -> None:
    assert replaced(0.8, losses=[2.0, 3.0, 9.0]) == [1]


def test_a_search_that_halves_the_loss_is_healthy() -> None:
    assert replaced(0.6, losses=[2.0, 0.9, 0.2, 0.1]) == []


def test_a_single_matrix_has_nothing_to_lose() -> None:
    assert replaced(0.8, losses=[2.0, 3.0, 9.0], names=("a.weight",)) == []


def test_updates_are_those_of_one_step_of_the_optimizer() -> None:
    assert replaced(0.8, losses=[2.0, 3.0, 2.0], steps=20) == []


def test_a_step_that_is_unlike_those_before_replaces_half_a_weight() -> None:
    def judged(last: float, before: float) -> list[tuple[str, int]]:
        bench, found = Bench(UpdatesTooLarge(), facts=FACTS), []
        for ratio in [before] * 6 + [last]:
            updates = dict.fromkeys(FACTS, normal(8, 64, scale=ratio))
            found += bench.step(updates=updates, weights=dict.fromkeys(FACTS, normal(8, 64)))
        return [(one.kind, one.step) for one in found]

    assert judged(0.55, before=0.05) == [("jump", 6)]
    assert judged(0.45, before=0.01) == []
    assert judged(0.55, before=0.06) == []
