"""VanishingGradient."""

from pathlib import Path
from typing import Any

import pytest
from rule_networks import FROZEN, TRAINED, layers, sgd, trained
from rule_steps import Bench, normal
from tensometer.rules.vanishing_gradient import VanishingGradient
from torch import nn

NAMES = [f"{at}.weight" for at in range(6)]
FACTS = dict.fromkeys(NAMES, TRAINED)
WEIGHTS = {name: normal(16, 16, scale=0.25) for name in NAMES}


def gradients(*decades: float) -> dict[str, Any]:
    return {name: normal(16, 16, scale=10.0**-one) for name, one in zip(NAMES, decades, strict=True)}


def test_a_steady_fall_is_found_at_the_third_step() -> None:
    bench = Bench(VanishingGradient(), facts=FACTS)
    (finding,) = bench.steps(6, weights=WEIGHTS, gradients=gradients(5, 4, 3, 2, 1, 0))
    assert (finding.tensor, finding.kind, finding.step) == ("0.weight", "steep", 2)
    assert finding.value == pytest.approx(1e-5, rel=0.5)
    assert "from 5.weight to 0.weight" in finding.sentence


def test_a_slow_fall_must_last() -> None:
    bench = Bench(VanishingGradient(drop=1e-5, lasting_drop=1e-3), facts=FACTS)
    (finding,) = bench.steps(40, weights=WEIGHTS, gradients=gradients(4, 3.2, 2.4, 1.6, 0.8, 0))
    assert (finding.kind, finding.step) == ("lasting", 24)


@pytest.mark.parametrize(
    "decades",
    [(9, 9, 9, 9, 9, 9), (0, 1, 2, 3, 4, 5), (3, 0, 3, 0, 3, 0), (2, 1.6, 1.2, 0.8, 0.4, 0), (4, 4, 4, 4, 4, 0)],
    ids=["small everywhere", "the other way", "adapters", "within a hundredth", "one that is larger"],
)
def test_other_profiles_are_healthy(decades: tuple[float, ...]) -> None:
    assert Bench(VanishingGradient(), facts=FACTS).steps(40, weights=WEIGHTS, gradients=gradients(*decades)) == []


@pytest.mark.parametrize("facts", [FROZEN, {**TRAINED, "module_type": "Embedding"}])
def test_frozen_weights_and_embeddings_are_not_judged(facts: dict[str, Any]) -> None:
    bench = Bench(VanishingGradient(), facts=dict.fromkeys(NAMES, facts))
    assert bench.steps(40, weights=WEIGHTS, gradients=gradients(5, 4, 3, 2, 1, 0)) == []


def test_a_gradient_that_was_always_zero_is_found_and_one_that_comes_to_be_is_not() -> None:
    bench = Bench(VanishingGradient(zero_patience=5), facts=FACTS)
    alive, dead = gradients(0, 0, 0, 0, 0, 0), gradients(0, 0, 0, 0, 0, 0)
    for name in NAMES[:2]:
        dead[name] = 0 * dead[name]
    (finding,) = bench.steps(10, weights=WEIGHTS, gradients=dead)
    assert (finding.kind, finding.step, finding.others) == ("zero", 4, ("1.weight",))
    bench = Bench(VanishingGradient(zero_patience=5), facts=FACTS)
    bench.step(weights=WEIGHTS, gradients=alive)
    assert bench.steps(10, weights=WEIGHTS, gradients=dead) == []


def test_deep_sigmoids_are_found_in_training_and_relus_are_not(tmp_path: Path) -> None:
    deep = layers(16, *[24] * 8, 10, activation=nn.Sigmoid)
    findings = trained(tmp_path / "a", VanishingGradient(), deep, sgd(deep), steps=5)
    assert [(one.tensor, one.step) for one in findings] == [("0.weight", 2)]
    deep = layers(16, *[24] * 8, 10)
    assert trained(tmp_path / "b", VanishingGradient(), deep, sgd(deep), steps=30) == []


def test_how_steep_a_fall_must_be() -> None:
    def judged(fall: float, rule: VanishingGradient) -> list[str]:
        decades = [fall * (5 - at) / 5 for at in range(6)]
        return [one.kind for one in Bench(rule, facts=FACTS).steps(40, weights=WEIGHTS, gradients=gradients(*decades))]

    assert judged(3.8, VanishingGradient()) == ["steep"]
    assert judged(3.6, VanishingGradient()) == []
    assert judged(3.8, VanishingGradient(per_layer=0.1)) == []  # as slowly as many healthy layers
