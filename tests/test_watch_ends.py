"""What `tensometer watch` finds when nothing more comes: across ranks, of a run that stalls, of one that goes on."""

import time
from pathlib import Path

import numpy as np
import pytest
from own_rules import TooLarge, write_run
from tensometer import Monitor
from tensometer.replay import evaluate
from tensometer.rules.replica_divergence import ReplicaDivergence
from tensometer.rules.stalled_training import StalledTraining
from tensometer.store import RunWriter
from tensometer.watch import Options, watch
from watching import Seen, once, until, watched

STALLS = [StalledTraining(seconds=0.3, factor=0.0)]


def diverging(path: Path) -> None:
    """Two ranks of three, whose weights are other ones from step 5 on. The third never begins."""
    for rank in (0, 2):
        with Monitor(path, every=1, rank=rank, world_size=3, strict=True) as monitor:
            for number in range(10):
                weight = np.arange(4, dtype=np.float32) + (number if number < 5 else rank)
                monitor.record("w", weight, collection="weights")
                monitor.step()


@pytest.mark.parametrize("options", [{"once": True}, {"timeout": 0.3}])
def test_ranks_that_wait_for_another_are_judged_in_the_end(tmp_path: Path, options: dict[str, float]) -> None:
    diverging(tmp_path)
    seen = Seen()
    outcome = watch([str(tmp_path)], Options([ReplicaDivergence()], **options), seen)
    assert seen.steps == [5]
    assert outcome.counts[str(tmp_path)].total() == 1
    assert len((tmp_path / "findings.jsonl").read_text().splitlines()) == 1


def test_a_run_that_stalls_is_found_while_it_does_and_once(tmp_path: Path) -> None:
    settings = {"every": 1, "collections": ["custom"], "flush_seconds": 0.02}
    with watched(tmp_path, rules=STALLS) as (seen, _), Monitor(tmp_path, **settings) as monitor:
        for _ in range(5):
            monitor.record("x", np.ones(4, np.float32))
            monitor.step()
            time.sleep(0.01)
        until(lambda: seen.findings)
        time.sleep(1.5)
    assert [(one.rule, one.step) for _, one in seen.findings] == [("StalledTraining", 4)]
    assert 0.3 < seen.findings[0][1].value < 3.0


def test_runs_that_have_ended_or_are_looked_at_once_do_not_stall(tmp_path: Path) -> None:
    write_run(tmp_path / "ended", [1.0] * 3)
    write_run(tmp_path / "half", [1.0] * 3, rank=0, world_size=2)  # the other rank has not begun
    writer = RunWriter(tmp_path / "begun")
    writer.flush()
    runs = [tmp_path / "ended", tmp_path / "half", tmp_path / "begun"]
    with watched(*runs, rules=STALLS, timeout=1.2) as (seen, _):
        pass
    assert seen.steps == []
    writer.close()
    with Monitor(tmp_path / "open", every=1, collections=["custom"], flush_seconds=0.02) as monitor:
        monitor.record("x", np.ones(4, np.float32))
        monitor.step()
        monitor.flush()
        time.sleep(0.5)
        assert once(tmp_path / "open", rules=STALLS)[0].steps == []


def test_a_rule_that_raises_of_a_pause_is_told_and_the_run_is_watched_on(tmp_path: Path) -> None:
    class Broken(TooLarge):
        """A mistake."""

        def check_pause(self, step: object, seconds: float, state: object) -> None:
            raise ZeroDivisionError("oh")

    settings = {"every": 1, "collections": ["custom"], "flush_seconds": 0.02}
    with watched(tmp_path, rules=[Broken()]) as (seen, outcome), Monitor(tmp_path, **settings) as monitor:
        monitor.record("x", np.full(4, 11.0, np.float32))
        monitor.step()
        until(lambda: seen.notes)
        time.sleep(1.2)
    assert seen.notes == [f"{tmp_path}: the rule Broken is asked no more: ZeroDivisionError: oh"]
    assert (outcome[0].failed, seen.steps) == ({}, [0])
    assert len(evaluate(tmp_path, [TooLarge()])) == 1
