"""StalledTraining."""

from typing import Any

from rule_steps import Bench
from tensometer.rules import Finding
from tensometer.rules.stalled_training import StalledTraining
from tensometer.store import Event


def judged(bench: Bench, time: float, **given: Any) -> list[Finding]:
    """The findings of a step at a time."""
    step = bench.made(losses={"loss": 1.0}, **given)
    step.time = time
    return bench.engine.judge(step)


def test_a_pause_between_steps_is_found() -> None:
    bench = Bench(StalledTraining())
    assert [judged(bench, float(time)) for time in range(10)] == [[]] * 10
    (finding,) = judged(bench, 2000.0)
    assert finding.sentence == "no step was captured for 1991 s; usually one comes every 1 s"
    assert judged(bench, 2001.0) == []


def test_who_follows_a_run_is_told_while_it_lasts_and_once() -> None:
    bench = Bench(StalledTraining(seconds=60.0))
    assert bench.engine.waited(100.0) == []
    judged(bench, 0.0)
    judged(bench, 1.0)
    assert bench.engine.waited(59.0) == []
    (finding,) = bench.engine.waited(61.0)
    assert (finding.rule, finding.value) == ("StalledTraining", 61.0)
    assert bench.engine.waited(300.0) == []
    assert judged(bench, 400.0) == []


def test_slow_steps_and_runs_that_were_taken_up_later_are_none() -> None:
    bench = Bench(StalledTraining())
    assert [judged(bench, 3000.0 * step) for step in range(10)] == [[]] * 10
    bench = Bench(StalledTraining())
    assert judged(bench, 0.0) == []
    assert judged(bench, 90000.0, events=[Event(0, 0.0, "end", {})]) == []
