"""Rules that are chosen by settings, and mistakes in them: each error says where and what was found."""

import math
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensometer
from rule_steps import Bench, normal
from tensometer import Monitor
from tensometer.rules import Condition, Rule, Severity, State, Step, chosen, from_file, known, register, registry
from tensometer.rules.all_zero import AllZero
from tensometer.rules.non_finite import NonFinite


@pytest.fixture(autouse=True)
def _none_registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_registered", {})


class Large(tensometer.Rule):
    """A weight or a gradient is large."""

    needs = ("weights",)
    wants = ("gradients", "updates/ratio", "labels/classes", "activations/units")
    limit: float = 10.0

    def check(self, step: Step, state: State) -> Iterator[Condition]:
        """Compare."""
        for group in ("weights", "gradients"):
            rows = self.rows(step, group)
            yield Condition(rows, rows["linf"] > self.limit, "{tensor}", rows["linf"], self.limit, kind=group)


OWN = '''
from __future__ import annotations
from tensometer.rules import Condition, Rule

class Own(Rule):
    """A weight is large."""

    needs = ("weights",)
    limit: float = 10.0

    def check(self, step, state):
        rows = self.rows(step, "weights")
        yield Condition(rows, rows["linf"] > self.limit, "{tensor} has {value:g}", rows["linf"], self.limit)
'''


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"module_types": "Linear"}, "Large.module_types: 'Linear' is not a list of names"),
        ({"module_types": [1]}, "Large.module_types: [1] is not a list of names"),
        ({"collections": "weights"}, "Large.collections: 'weights' is not a list of names"),
        ({"collections": ["weigths"]}, "Large.collections: 'weigths' is unknown; did you mean 'weights'?"),
        ({"severity": "worst"}, "Large.severity: 'worst' is none of info, warning, error, fatal"),
        ({"severity": 3}, "Large.severity: 3 is none of"),
        ({"limit": "10"}, "Large.limit: '10' is not a number"),
        ({"patience": 0}, "Large.patience: 0 is less than 1"),
        ({"include": "("}, "Large.include: '(' is not a regular expression"),
    ],
)
def test_settings_that_mean_nothing(given: dict[str, Any], sentence: str) -> None:
    with pytest.raises((TypeError, ValueError), match=re.escape(sentence)):
        Large(**given)


@pytest.mark.parametrize(
    ("name", "given", "sentence"),
    [
        ("needs", "weights", "Own.needs: 'weights' is not a tuple of names of groups"),
        ("needs", (1,), "Own.needs: (1,) is not a tuple of names of groups"),
        ("needs", ("weigths",), "Own.needs: 'weigths' is unknown; did you mean 'weights'?"),
        ("wants", ("updates/rate",), "Own.wants: 'updates/rate' is unknown; did you mean 'updates/ratio'?"),
        ("causes", "a large rate", "Own.causes: 'a large rate' is not a tuple of texts"),
        ("remedies", ["a small rate"], "Own.remedies: ['a small rate'] is not a tuple of texts"),
    ],
)
def test_what_a_class_declares(name: str, given: object, sentence: str) -> None:
    with pytest.raises((TypeError, ValueError), match=re.escape(sentence)):
        type("Own", (Rule,), {name: given})


@pytest.mark.parametrize(
    "given", ["NonFinite", NonFinite, NonFinite(), ["NonFinite"], [NonFinite], {"only": ["NonFinite"]}]
)
def test_one_rule(given: object) -> None:
    assert chosen(given) == [NonFinite()]


def test_another_default_of_a_setting_needs_no_type() -> None:
    class Larger(Large):
        """More, and worse."""

        severity = Severity.FATAL
        patience = 2
        limit = 100.0

    assert (Larger().severity, Larger().patience, Larger().limit, Large().limit) == (Severity.FATAL, 2, 100.0, 10.0)
    with pytest.raises(TypeError, match=r"Larger\.patience: 'x' is not a whole number"):
        Larger(patience="x")  # type: ignore[arg-type]


def test_a_setting_may_be_below_zero_where_its_default_is() -> None:
    class Cosine(Rule):
        """Points the other way."""

        least: float = -0.5

    assert Cosine(least=-0.9).least == -0.9
    with pytest.raises(ValueError, match=r"Large\.limit: -1 is not a finite number from 0"):
        Large(limit=-1)
    for value in (math.inf, math.nan, 10**400):
        with pytest.raises(ValueError, match=rf"Large\.limit: {value} is not a finite number from 0"):
            Large(limit=value)


def test_what_becomes_worse_is_told_at_once() -> None:
    class Worse(Rule):
        """Holds at every step, and is an error from the third on."""

        needs = ("custom",)

        def check(self, step: Step, state: State) -> Iterator[Condition]:
            severity = Severity.ERROR if step.number >= 2 else Severity.WARNING
            yield self.about(True, "so it is", value=1.0, threshold=0.0, step=step, severity=severity)

    found = Bench(Worse(cooldown=4)).steps(8, custom={"x": 1.0})
    assert [(one.step, one.severity.label, one.repeated) for one in found] == [
        (0, "warning", False),
        (2, "error", False),
        (6, "error", True),
    ]


def test_what_a_rule_has_not_declared_it_cannot_read() -> None:
    class Silent(Rule):
        """Reads what may never be captured."""

        needs = ("losses",)

        def check(self, step: Step, state: State) -> Iterator[Condition]:
            rows = self.rows(step, "updates")
            yield Condition(rows, rows["l2"] > 0, "{tensor}", rows["l2"], 0.0)

    with pytest.raises(ValueError, match="'updates' is not among what Silent needs and wants"):
        Bench(Silent()).step(losses={"loss": 1.0})


def test_a_part_of_a_whole_is_at_most_one() -> None:
    with pytest.raises(ValueError, match=r"AllZero\.share: 65 is a part of a whole, at most 1"):
        chosen({"AllZero": {"share": 65}})
    assert chosen({"only": ["AllZero"], "AllZero": {"share": 1}})[0] == AllZero(share=1)


def test_a_setting_needs_a_default() -> None:
    class NoDefault(Rule):
        """Cannot be made."""

        limit: float

    with pytest.raises(TypeError, match=r"NoDefault\.limit: a setting needs a default"):
        register(NoDefault)
    assert "NoDefault" not in known()


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (lambda: chosen({1: 2}), "rules: 1 is not the name of a rule"),
        (lambda: chosen(Rule), "is no rule, no subclass of tensometer.Rule"),
        (lambda: chosen([Rule]), "is no rule, no subclass of tensometer.Rule"),
        (lambda: chosen(int), "is no rule, no subclass of tensometer.Rule"),
        (lambda: chosen(["LossSpik"]), "rules: 'LossSpik' is unknown; did you mean 'LossSpike'? Known are"),
        (lambda: chosen(["qqq"]), "rules: 'qqq' is unknown. Known are"),
        (lambda: chosen({"LossSpike": {"patince": 3}}), "LossSpike: 'patince' is unknown; did you mean 'patience'?"),
    ],
)
def test_what_is_no_choice(given: Callable[[], object], sentence: str) -> None:
    with pytest.raises((TypeError, ValueError), match=re.escape(sentence)):
        given()


@pytest.mark.parametrize(
    ("code", "sentence"),
    [
        ("import nowhere_to_be_found", "ModuleNotFoundError: No module named"),
        ("class (", "SyntaxError"),
        ("1/0", "Zero"),
    ],
)
def test_a_file_of_rules_that_raises_is_named(tmp_path: Path, code: str, sentence: str) -> None:
    (tmp_path / "own.py").write_text(code)
    (tmp_path / "rules.toml").write_text('files = ["own.py"]')
    with pytest.raises(ImportError, match=rf"rules: .*own\.py: {sentence}"):
        from_file(tmp_path / "rules.toml")


def test_a_rule_in_a_file_with_settings_in_toml(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(OWN)
    (tmp_path / "rules.toml").write_text(
        'files = ["own.py"]\nonly = ["Own"]\n[Own]\nlimit = 3\ncollections = ["weights"]'
    )
    found: list[tensometer.Finding] = []
    rules = tmp_path / "rules.toml"
    with Monitor(tmp_path / "run", every=1, rules=rules, on_finding=found.append) as monitor:
        monitor.record("a", np.array([5.0]), collection="weights")
        monitor.step()
    assert [str(one) for one in found] == ["step 0: Own (warning): a has 5"]


def test_selection_by_role() -> None:
    large = {"weights": {"a": normal(4) + 100}, "gradients": {"a": normal(4) + 100}}
    for collections, kinds in ((None, ["weights", "gradients"]), (["gradients"], ["gradients"]), (["losses"], [])):
        assert [one.kind for one in Bench(Large(collections=collections)).step(**large)] == kinds  # type: ignore[arg-type]


def test_a_rule_of_ours_selects_by_role_in_toml(tmp_path: Path) -> None:
    (tmp_path / "rules.toml").write_text('only = ["NonFinite"]\n[NonFinite]\ncollections = ["gradients"]')
    bad = {"weights": {"a": np.array([np.nan, 1.0])}}
    assert Bench(*from_file(tmp_path / "rules.toml")).step(**bad) == []
    assert [one.rule for one in Bench(NonFinite()).step(**bad)] == ["NonFinite"]


def test_a_severity_reads_as_its_word() -> None:
    severity = Large().severity
    assert (str(severity), f"{severity:>8}", severity == 2) == ("warning", " warning", True)
