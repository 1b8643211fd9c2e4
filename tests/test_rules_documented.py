"""The page of rules and the table in README.md are what the docstrings say."""

import importlib.util
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import tensometer
from tensometer import Finding, Monitor
from tensometer.rules import Rule, known, registry

ROOT = Path(__file__).resolve().parent.parent
OURS = [rule for rule in known().values() if rule.__module__.startswith("tensometer.rules.")]


def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate_rules", ROOT / "docs" / "generate_rules.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_page_and_table_are_up_to_date() -> None:
    assert generator().main(["--check"]) == 0, "make docs writes them"


@pytest.mark.parametrize("rule", OURS, ids=lambda rule: rule.__name__)
def test_docstrings_have_every_part(rule: type[Rule]) -> None:
    module = generator()
    missing = [label for label in module.LABELS if not module.section(rule, label)]
    assert not missing
    assert module.first_line(rule).endswith(".")
    assert rule.__name__ in module.section(rule, "Example"), "the example is one of the rule itself"
    assert rule.causes
    assert rule.remedies


@pytest.mark.parametrize("rule", OURS, ids=lambda rule: rule.__name__)
def test_examples_can_be_made(rule: type[Rule]) -> None:
    code = re.findall(r"`([^`]+)`", generator().section(rule, "Example"))
    for example in code:
        assert isinstance(eval(example, {rule.__name__: rule}), rule)  # our own docstrings


@pytest.mark.parametrize("page", ["README.md", "docs/rules.md"])
def test_the_rule_of_ones_own_works_as_shown(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    (code,) = (one for one in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "class LargeWeights" in one)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(registry, "_registered", {})
    names: dict[str, Any] = {"tensometer": tensometer}
    exec(code, names)  # our own page
    if "monitor" in names:
        names["monitor"].close()
    told: list[Finding] = []
    rules = {"only": ["LargeWeights"]}
    with Monitor(tmp_path / "run", every=1, rules=rules, on_finding=told.append) as monitor:
        for largest in (1.0, 60.0):
            monitor.record("head.weight", np.array([largest]), collection="weights")
            monitor.step()
    assert [str(one) for one in told] == ["step 1: LargeWeights (warning): head.weight has 60"]


def test_a_readme_without_its_markers_is_told() -> None:
    with pytest.raises(ValueError, match=r"README\.md: .* are not in it"):
        generator().readme("# tensometer\n")


def test_the_page_of_ones_own_rules_works_as_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (ROOT / "docs" / "own_rules.md").read_text(encoding="utf-8")
    rule, engine = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(rule, names)  # our own page
    with Monitor("runs/exp1", every=1) as monitor:
        monitor.record("head.weight", np.ones(3), collection="weights")
        monitor.step()
    exec(engine, names)
    assert names["other"].progress.observed == 1


def test_the_example_of_xgboost_works_as_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (ROOT / "docs" / "rules.md").read_text(encoding="utf-8")
    (code,) = (one for one in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "xgboost" in one)
    monkeypatch.chdir(tmp_path)
    exec(code, {})  # our own page
    assert [line for line in capsys.readouterr().out.splitlines() if "(info)" not in line] == []
