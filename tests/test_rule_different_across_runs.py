"""DifferentAcrossRuns."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rule_steps import Bench, normal
from tensometer import Monitor, open_run
from tensometer.replay import evaluate
from tensometer.rules import Finding, default, from_settings
from tensometer.rules.different_across_runs import DifferentAcrossRuns


def train(path: Path, *, from_step: int = 99, off: float = 0.0, every: int = 1, rules: Any = None) -> list[Finding]:
    """Twelve steps, whose weights are off by so much from a step on."""
    found: list[Finding] = []
    with Monitor(path, every=every, strict=True, rules=rules or [], on_finding=found.append) as monitor:
        for number in range(12):
            scale = 1.0 + (off if number >= from_step else 0.0)
            monitor.record("a", normal(8, 8, seed=number), collection="weights")
            monitor.record("b", normal(8, 8, seed=number) * np.float32(scale), collection="weights")
            monitor.step(loss=2.0 / (number + 1) * scale)
    return found


@pytest.mark.parametrize("every", [1, 3])
def test_the_first_step_that_is_otherwise_live_and_from_disk(tmp_path: Path, every: int) -> None:
    train(tmp_path / "before")
    rules = [DifferentAcrossRuns(reference=str(tmp_path / "before"))]
    found = train(tmp_path / "after", from_step=6, off=0.1, every=every, rules=rules)
    assert [(one.step, one.tensor, one.kind) for one in found] == [(6, "loss", "losses"), (6, "b", "weights")]
    assert found[1].value == pytest.approx(0.1 / 1.1, rel=0.05)
    assert evaluate(tmp_path / "after", rules) == found


def test_what_is_alike_or_within_the_tolerance(tmp_path: Path) -> None:
    train(tmp_path / "before", every=2)
    for name, off in (("same", 0.0), ("near", 0.005)):
        train(tmp_path / name, from_step=3, off=off)
        assert evaluate(tmp_path / name, [DifferentAcrossRuns(reference=str(tmp_path / "before"))]) == []


def test_nan_and_other_sizes_differ_whatever_the_tolerance(tmp_path: Path) -> None:
    with Monitor(tmp_path, every=1, strict=True) as monitor:
        monitor.record("a", normal(4), collection="weights")
        monitor.record("zero", np.zeros(4), collection="weights")
        monitor.step()
    reference = str(tmp_path)
    broken = normal(4)
    broken[0] = np.nan
    for other in (broken, normal(5)):
        bench = Bench(DifferentAcrossRuns(reference=reference, tolerance=1e9))
        (finding,) = _judged(bench, tmp_path, {"a": other, "zero": np.zeros(4), "new": normal(3)})
        assert (finding.tensor, finding.value) == ("a", np.inf)


def _judged(bench: Bench, path: Path, weights: dict[str, Any]) -> list[Finding]:
    from tensometer.reference import reference_steps
    from tensometer.rules import Engine

    bench.engine = Engine(bench.engine.rules, load=reference_steps)
    return bench.step(weights=weights)


def test_a_reference_is_needed() -> None:
    assert "DifferentAcrossRuns" not in [rule.name for rule in default()]
    with pytest.raises(ValueError, match=r"DifferentAcrossRuns\.reference: '' is not the path or URL of a run"):
        from_settings({"DifferentAcrossRuns": True})
    with pytest.raises(ValueError, match="other runs are read beside a Monitor"):
        Bench(DifferentAcrossRuns(reference="x")).step(weights={"a": normal(3)})


def test_a_reference_that_is_not_there_is_told_once_and_training_goes_on(tmp_path: Path) -> None:
    rules = [DifferentAcrossRuns(reference=str(tmp_path / "nowhere"))]
    with Monitor(tmp_path / "run", every=1, rules=rules) as monitor:
        with pytest.warns(RuntimeWarning, match=r"DifferentAcrossRuns is asked no more: .*there is no run here"):
            monitor.step(loss=1.0)
        monitor.step(loss=1.0)
    assert len(open_run(tmp_path / "run").events("problem")) == 1
