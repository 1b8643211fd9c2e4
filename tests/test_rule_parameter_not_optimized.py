"""ParameterNotOptimized."""

from typing import Any

from rule_networks import FROZEN, LEFT_OUT, TRAINED
from rule_steps import Bench, normal
from tensometer.rules import Finding
from tensometer.rules.parameter_not_optimized import ParameterNotOptimized
from tensometer.store import Event

W = "a.weight"


def told(findings: list[Finding]) -> list[tuple[str, int]]:
    return [(one.kind, one.step) for one in findings]


def found(facts: Any, moves: bool, fresh: bool, count: int = 6) -> list[tuple[str, int]]:
    """Of a weight that moves or not, with a new gradient at each step or always the same."""
    bench, findings = Bench(ParameterNotOptimized(), facts={W: facts}), []
    for step in range(count):
        gradient = {} if facts is FROZEN else {"gradients": {W: normal(4, 4, seed=step * fresh)}}
        findings += bench.step(weights={W: normal(4, 4, seed=step * moves)}, **gradient)
    return told(findings)


def test_a_parameter_that_no_optimizer_has() -> None:
    assert found(LEFT_OUT, moves=False, fresh=True) == [("left_out", 2)]
    assert found(LEFT_OUT, moves=False, fresh=False) == []  # the gradient of its last training
    assert found(LEFT_OUT, moves=True, fresh=True) == []  # a copy of masters
    assert found(TRAINED, moves=False, fresh=True) == []


def test_a_frozen_parameter_that_changes() -> None:
    assert found(FROZEN, moves=True, fresh=False) == [("frozen", 2)]
    assert found(FROZEN, moves=False, fresh=False) == []


def test_a_teacher_may_follow() -> None:
    facts = {"student.a.weight": TRAINED, "teacher.a.weight": FROZEN}
    bench, findings = Bench(ParameterNotOptimized(), facts=facts), []
    for step in range(6):
        findings += bench.step(weights={name: normal(4, 4, seed=step) for name in facts})
    assert findings == []


def test_a_parameter_that_never_gets_a_gradient() -> None:
    facts = {W: TRAINED, "b.weight": TRAINED}
    weights = dict.fromkeys(facts, normal(4, 4))
    missing = [Event(0, 0.0, "gradients_missing", {"parameters": [W]})]

    def judged(first: int) -> list[tuple[str, int]]:
        bench, findings = Bench(ParameterNotOptimized(), facts=facts), []
        for step in range(12):
            names = facts if step >= first else ["b.weight"]
            gradients = {name: normal(4, 4, seed=step) for name in names}
            findings += bench.step(weights=weights, gradients=gradients, events=missing if step == 0 else ())
        return told(findings)

    assert judged(first=99) == [("no_gradient", 7)]
    assert judged(first=7) == []  # left out by chance


def without_gradient(facts: Any, modules: list[str], count: int = 30) -> list[tuple[str, int]]:
    """Of a weight that has none, beside another that has, where these modules are called."""
    of_all = {W: facts, "b.weight": TRAINED}
    bench, findings = Bench(ParameterNotOptimized(), facts=of_all), []
    missing = [Event(0, 0.0, "gradients_missing", {"parameters": [W]})]
    for step in range(count):
        rows = {"weights": dict.fromkeys(of_all, normal(4, 4)), "gradients": {"b.weight": normal(4, 4, seed=step)}}
        rows["activations"] = dict.fromkeys(modules, normal(8, 4, seed=step))
        findings += bench.step(**rows, events=missing if step == 0 else ())
    return told(findings)


def test_modules_that_are_not_called_may_come_later() -> None:
    assert without_gradient(TRAINED, ["a", "b"]) == [("no_gradient", 7)]
    assert without_gradient(TRAINED, ["a.0", "b"]) == [("no_gradient", 7)]  # of several outputs
    assert without_gradient(TRAINED, ["b"]) == [("unused", 24)]
    assert without_gradient(TRAINED, ["b"], count=24) == []


def test_a_body_under_no_grad_that_no_optimizer_has_is_healthy() -> None:
    assert without_gradient(LEFT_OUT, ["a", "b"]) == []
    assert without_gradient(LEFT_OUT, ["b"]) == []


def test_tensors_that_were_one() -> None:
    tied = {**TRAINED, "tied_names": ["head.weight"]}
    bench = Bench(ParameterNotOptimized(), facts={W: tied, "head.weight": TRAINED})
    assert bench.steps(2, weights={W: normal(4, 4)}) == []
    assert told(bench.step(weights={W: normal(4, 4), "head.weight": normal(4, 4)})) == [("apart", 2)]
