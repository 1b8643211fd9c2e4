"""The suite of planted faults: its cases are well-formed, and a run is recorded, kept and scored."""

import dataclasses
from pathlib import Path

import pytest
from tensometer import open_run
from tensometer.replay import evaluate
from tensometer.rules import Finding, default, known
from tensometer.rules.all_zero import AllZero

from benchmarks.detection.case import Case, Trial
from benchmarks.detection.data import Batches, digits
from benchmarks.detection.loop import Fit
from benchmarks.detection.models import mlp
from benchmarks.detection.record import kept, recorded, trials
from benchmarks.detection.score import Score, judged
from benchmarks.detection.suite import CASES


def zeros_from_the_fifth_step(trial: Trial) -> None:
    def batches() -> Batches:
        for step, (x, y) in enumerate(digits().batches(8)):
            yield x * 0 if trial.broken and step >= 5 else x, y

    model = mlp(64, trial.width(8), 10)
    Fit(steps=12)(trial, model, trial.optimizer(model.parameters()), batches())


# Those that need another run, or see several ranks, which a training does not, or speak of time. Each has a file of
# tests of its own.
OWN_TESTS = ("DifferentAcrossRuns", "ReplicaDivergence", "IdenticalBatches", "StalledTraining")


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where runs are kept that several rules are asked of."""
    return tmp_path_factory.mktemp("recordings")


CASE = Case("zeros", zeros_from_the_fifth_step, frozenset({"AllZero"}), 5)


def test_there_are_enough_cases_and_each_says_what_it_is() -> None:
    assert sum(not case.healthy for case in CASES.values()) >= 34
    assert sum(case.healthy for case in CASES.values()) >= 24
    assert all(case.program.__doc__ for case in CASES.values())
    functions = {case.program for case in CASES.values()}
    assert len(functions) == len(CASES)


def test_other_seeds_have_other_widths_and_optimizers_and_a_twin_has_its_faults() -> None:
    chosen = {
        (seed, broken): (trial.width(64), type(trial.optimizer(mlp(4, 2).parameters())).__name__)
        for seed in range(12)
        for broken in (True, False)
        for trial in [Trial("any", seed, broken, Path())]
    }
    assert {chosen[seed, True] for seed in (0, 1)} == {(64, "Adam")}
    assert all(chosen[seed, True] == chosen[seed, False] for seed in range(12))
    assert len(set(chosen.values())) > 4


@pytest.mark.filterwarnings("ignore")  # what the libraries of the programs warn of is not ours
def test_a_run_is_recorded_once_and_scored(tmp_path: Path) -> None:
    assert kept(CASE, 0, True, runs=tmp_path) is None
    runs = [recorded(*one, runs=tmp_path) for one in trials([CASE], [0])]
    marks = [run.place.parent / "recorded.json" for run in runs]
    written = [mark.stat().st_mtime_ns for mark in marks]
    assert [recorded(*one, runs=tmp_path) for one in trials([CASE], [0])] == runs
    assert [mark.stat().st_mtime_ns for mark in marks] == written

    fault, twin = (judged(run, [AllZero()]) for run in runs)
    assert (fault.delay, fault.early, twin.alarms) == (2, [], [])
    score = Score([fault, twin])
    assert "1/1    100.0 %" in score.totals()[0]
    assert "AllZero      1/1" in score.by_rule()[1]
    assert score.details() == []

    # The same findings, of a fault that had not begun yet, or that is something else.
    late = judged(dataclasses.replace(runs[0], onset=11), [AllZero()])
    other = judged(
        dataclasses.replace(runs[0], case=dataclasses.replace(CASE, accepted=frozenset({"Other"}))), [AllZero()]
    )
    lines = "\n".join(Score([late, other]).details())
    assert "MISSED zeros (fault, seed 0), from step 11: wanted AllZero" in lines
    assert "said: step 7: AllZero (warning)" in lines
    assert "MISSED zeros (fault, seed 0), from step 5: wanted Other" in lines
    assert "instead: step 7: AllZero (warning)" in lines


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", [name for name in known() if name not in OWN_TESTS])
def test_every_rule_finds_a_fault_beside_the_training_and_from_disk(name: str, recordings: Path) -> None:
    cases = [case for case in CASES.values() if name in case.accepted]
    assert cases, "no fault of the suite is to be told by it"
    for case in cases:
        run = recorded(case, 0, True, runs=recordings)
        live = [Finding.from_dict(event.data) for event in open_run(run.place).events("finding")]
        rules = [rule for rule in default() if not rule.across_ranks]
        assert evaluate(run.place, rules) == live
        if any(one.rule == name for one in live):
            return
    pytest.fail(f"not found in {[case.name for case in cases]}")
