"""Rules that judge nothing say so, once and by name: collections that are missing, and steps that lie apart."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensometer
import torch
from rule_steps import Bench, normal
from tensometer import Finding, Monitor
from tensometer.replay import evaluate
from tensometer.rules import Condition, Engine, State, Step
from torch import nn


class Weights(tensometer.Rule):
    """Looks at weights."""

    needs = ("weights",)

    def check(self, step: Step, state: State) -> Iterator[Condition]:
        """Nothing is found."""
        yield self.about(False, "", value=0, threshold=0, step=step)


class Both(Weights):
    """Looks at weights and gradients."""

    needs = ("weights", "gradients")


class Consecutive(Weights):
    """Tells of every second step that it sees."""

    consecutive = True
    patience: int = 2

    def check(self, step: Step, state: State) -> Iterator[Condition]:
        """It always holds."""
        yield self.about(True, "two steps", value=1, threshold=0, step=step)


def train(path: Path, *, every: int, steps: int = 40, loss: bool = True) -> list[Finding]:
    """What the default rules find in a small training, and the same from disk."""
    torch.manual_seed(0)
    found: list[Finding] = []
    model, loss_module = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3)), nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    with Monitor(path, every=every, strict=True, rules=True, on_finding=found.append) as monitor:
        monitor.attach(model, optimizer=optimizer, loss=loss_module if loss else None)
        for _ in range(steps):
            x = torch.randn(16, 8)
            optimizer.zero_grad()
            value = loss_module(model(x), (x[:, 0] > 0).long() + (x[:, 1] > 0).long())
            value.backward()
            optimizer.step()
            monitor.step(loss=value)
    assert evaluate(path) == found
    return found


def test_all_are_told_in_one_finding() -> None:
    bench = Bench(Weights(), Both())
    (finding,) = bench.steps(30, losses={"loss": 1.0})
    assert (finding.severity.label, finding.step, finding.kind) == ("info", 9, "not_captured")
    assert finding.sentence == (
        "not judged: Weights (the run has no weights); Both (the run has no weights and no gradients)"
    )
    assert bench.engine.finish(29, 0) == []


def test_groups_that_never_come_together_are_told_at_the_end() -> None:
    bench = Bench(Weights(), Both())
    for _ in range(20):
        assert bench.step(weights={"a": normal(4)}) == bench.step(gradients={"a": normal(4)}) == []
    (finding,) = bench.engine.finish(39, 0)
    assert str(finding) == (
        "step 39: Both (info): not judged: Both (no step of training has weights and gradients together)"
    )
    assert bench.engine.finish(39, 0) == []


def test_the_first_rank_speaks_for_all() -> None:
    assert Bench(Weights(), rank=1).steps(30, losses={"loss": 1.0}) == []


def test_steps_that_lie_apart_are_told() -> None:
    bench = Bench(Consecutive())
    found = [one for at in range(0, 120, 10) for one in bench.step(at=at, weights={"a": normal(4)})]
    assert [str(one) for one in found] == [
        "step 90: Consecutive (info): not judged: Consecutive (each step is compared with the one before, and from "
        "step 0 on they are captured 10 apart)"
    ]
    assert bench.engine.finish(110, 0) == []


def test_a_short_run_tells_of_steps_that_lie_apart_when_it_ends() -> None:
    bench = Bench(Consecutive())
    assert [one for at in (0, 10, 20) for one in bench.step(at=at, weights={"a": normal(4)})] == []
    (finding,) = bench.engine.finish(20, 0)
    assert "from step 0 on they are captured 10 apart" in finding.sentence


def test_a_rule_that_compares_steps_begins_anew_behind_a_gap() -> None:
    bench = Bench(Consecutive(cooldown=3))
    found = [one for at in (0, 10, 11, 12, 20, 21) for one in bench.step(at=at, weights={"a": normal(4)})]
    assert [(one.step, one.window, one.repeated) for one in found] == [(11, (10, 11), False), (21, (20, 21), True)]
    assert bench.engine.finish(21, 0) == []


def test_steps_that_are_captured_now_and_then_from_some_step_on() -> None:
    bench = Bench(Consecutive())
    found = [one for at in (*range(50), *range(50, 300, 10)) for one in bench.step(at=at, weights={"a": normal(4)})]
    assert [(one.step, one.severity.label) for one in found] == [(1, "warning"), (140, "info")]
    assert "from step 50 on they are captured 10 apart" in found[1].sentence


def test_steps_without_an_update_do_not_count() -> None:
    bench = Bench(Consecutive())
    found = []
    for at in range(12):
        stepped = at % 4 == 3
        rows = {"weights": {"a": normal(4)}} if stepped else {}
        found += bench.step(loop={"optimizer_steps": float(stepped)}, **rows)
    assert [(one.rule, one.step, one.severity.label) for one in found] == [("Consecutive", 7, "warning")]


def test_an_engine_remembers_what_was_told_and_what_lay_apart() -> None:
    first = Bench(Consecutive(), Both())
    for at in (0, 10):
        first.step(at=at, weights={"a": normal(4)})
    second = Bench(Consecutive(), Both())
    second.engine.restore(first.engine.values())
    (finding,) = second.engine.finish(10, 0)
    assert "10 apart" in finding.sentence
    third = Engine(second.engine.rules)
    third.restore(second.engine.values())
    assert third.finish(10, 0) == []


def test_a_training_that_is_captured_now_and_then(tmp_path: Path) -> None:
    (finding,) = train(tmp_path, every=10)
    assert finding.sentence == (
        "not judged: WeightCollapse, WeightGrowth (each step is compared with the one before, and from step 0 on they "
        "are captured 10 apart)"
    )


def test_a_training_without_its_loss_module_has_one_info(tmp_path: Path) -> None:
    (finding,) = train(tmp_path, every=1, loss=False)
    assert finding.severity.label == "info"
    for name in ("ClassImbalance", "ClassifierConfusion", "CollapsedOutput", "Underfitting"):
        assert name in finding.sentence


def test_arrays_of_ones_own_are_told_in_one_finding(tmp_path: Path) -> None:
    found: list[Finding] = []
    with Monitor(tmp_path, every=1, rules=True, on_finding=found.append) as monitor:
        for number in range(30):
            monitor.record("table", np.arange(3.0) + number)
            monitor.step(loss=1 / (1 + number))
    (finding,) = found
    assert "VanishingGradient" in finding.sentence
    assert "LossSpike" not in finding.sentence


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"include": "^encodr"}, "include='^encodr'"),
        ({"exclude": ".", "module_types": ["Linear"]}, "exclude='.', module_types=('Linear',)"),
        ({"collections": ["biases"]}, "collections=('biases',)"),
    ],
)
def test_a_selection_that_lets_nothing_in_is_told_once(settings: dict[str, Any], words: str) -> None:
    bench = Bench(Both(**settings), Weights(include="encoder"))
    rows = {"weights": {"encoder.weight": normal(4)}, "gradients": {"encoder.weight": normal(4)}}
    (finding,) = [*bench.steps(30, **rows), *bench.engine.finish(29, 0)]
    assert (finding.step, finding.rule) == (9, "Both")
    assert finding.sentence == f"not judged: Both ({words} lets in none of the tensors that it looks at)"


def test_a_selection_that_lets_something_in_at_last_is_not_told() -> None:
    bench = Bench(Weights(include="head"))
    assert bench.steps(9, weights={"encoder.weight": normal(4)}) == []
    assert bench.steps(9, weights={"head.weight": normal(4)}) == []
    assert bench.engine.finish(17, 0) == []


def train_on(path: Path, rule: tensometer.Rule) -> None:
    """Three steps beside a rule."""
    with Monitor(path, every=1, rules=[rule]) as monitor:
        for _ in range(3):
            monitor.record("a", normal(4), collection="weights")
            monitor.record("b", normal(4), collection="weights")
            monitor.step()


class Wrong(Weights):
    """Yields what it is told to."""

    what: str = "list"

    def check(self, step: Step, state: State) -> object:  # type: ignore[override]
        """One of several mistakes."""
        rows = step.group("weights")
        holds = rows["l2"] > 0
        return {
            "list": [Condition(rows, [True, True], "", 0.0, 0.0)],  # type: ignore[arg-type]
            "short": [Condition(rows, holds[:1], "", 0.0, 0.0)],
            "values": [Condition(rows, holds, "", rows["l2"][:1], 0.0)],
            "bare": Condition(rows, holds, "", 0.0, 0.0),
            "text": ["weights are bad"],
            "sentence": [Condition(rows, ~holds, "{tensr} is {value.real:g}", 0.0, 0.0)],
            "group": [Condition(step.group("weight" if self.what == "group" else "weights"), holds, "", 0.0, 0.0)],
            "nothing": None,
        }[self.what]


@pytest.mark.parametrize(
    ("what", "sentence"),
    [
        ("list", r"Wrong: holds must be an array of booleans, and is \[True, True\]"),
        ("short", r"Wrong: holds is of shape \(1,\), not \(2,\), as there are rows"),
        ("values", r"Wrong: value is of shape \(1,\), not \(2,\), as there are rows"),
        ("bare", r"Wrong: check\(\) must yield Conditions, and returned Condition\("),
        ("text", r"Wrong: check\(\) must yield Conditions, and yielded 'weights are bad'"),
        ("sentence", r"Wrong: {tensr} of the sentence is none of tensor, value, threshold"),
        ("group", r"'weight' is unknown; did you mean 'weights'\?"),
        ("nothing", r"Wrong: check\(\) must yield Conditions, and returned None"),
    ],
)
def test_a_mistake_in_a_rule_is_told_by_its_name(tmp_path: Path, what: str, sentence: str) -> None:
    with pytest.raises((TypeError, ValueError), match=sentence):
        Bench(Wrong(what=what)).step(weights={"a": normal(4), "b": normal(4)})
    with pytest.warns(RuntimeWarning, match=sentence):
        train_on(tmp_path, Wrong(what=what))
