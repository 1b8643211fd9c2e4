"""The page of rules and the table in README.md are what the docstrings say."""

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest
from tensometer.rules import Rule, known

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


def test_a_readme_without_its_markers_is_told() -> None:
    with pytest.raises(ValueError, match=r"README\.md: .* are not in it"):
        generator().readme("# tensometer\n")
