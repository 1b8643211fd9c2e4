"""What is done when a rule has found something, in the process that trains."""

import json
import logging
import os
import pickle
import signal
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from own_rules import TooLarge, finding, write_run
from tensometer import Finding, Monitor, StopTraining, actions, open_run
from tensometer.rules import Condition, Severity, State, Step


def problems(path: Path) -> list[str]:
    return [str(event.data["error"]) for event in open_run(path).events("problem")]


def test_a_function_is_called_with_every_finding_and_a_list_of_actions_with_those_they_are_for(tmp_path: Path) -> None:
    every: list[Finding] = []
    first: list[Finding] = []
    fatal: list[Finding] = []
    chosen = [every.append, actions.call(first.append), actions.call(fatal.append, severity="fatal")]
    write_run(tmp_path, [1.0] + [11.0] * 11, rules=[TooLarge()], on_finding=chosen)
    assert [(one.step, one.repeated) for one in every] == [(1, False), (6, True), (11, True)]
    assert [one.step for one in first] == [1]
    assert fatal == []
    assert [event.step for event in open_run(tmp_path).events("finding")] == [1, 6, 11]


def test_limits() -> None:
    told: list[Finding] = []
    action = actions.call(told.append, rules=["A", "B"], seconds=1000, repeated=True, most=2)
    for one in (finding("C"), finding("A"), finding("A"), finding("B"), finding("B", repeated=True)):
        action(one)
    assert [one.rule for one in told] == ["A", "B"]
    action = actions.call(told.append, severity="fatal", most=1)
    for severity in (Severity.ERROR, Severity.FATAL, Severity.FATAL):
        action(finding("D", severity=severity))
    assert [one.rule for one in told] == ["A", "B", "D"]


@pytest.mark.parametrize(
    ("limits", "sentence"),
    [
        ({"severity": "bad"}, "severity: 'bad' is none of info"),
        ({"rules": "TooLarge"}, "rules: 'TooLarge' is not a list of names"),
        ({"repeated": 1}, "repeated: 1 is neither True nor False"),
        ({"seconds": -1}, "seconds: -1 is not a number of seconds from 0"),
        ({"most": 0}, "most: 0 is less than 1"),
    ],
)
def test_wrong_limits_are_named(limits: dict[str, Any], sentence: str) -> None:
    with pytest.raises((TypeError, ValueError), match=sentence):
        actions.log(**limits)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ("mail", "on_finding: 'mail' cannot be called"),
        ([print, 3], "on_finding: 3 cannot be called"),
        (
            actions.log(rules=["ToLarge"]),
            "log: rules: 'ToLarge' is none of the rules that are asked; did you mean 'TooL",
        ),
    ],
)
def test_what_is_no_action_is_refused_at_once(tmp_path: Path, given: object, sentence: str) -> None:
    with pytest.raises((TypeError, ValueError), match=sentence):
        Monitor(tmp_path, rules=[TooLarge()], on_finding=given)


def test_log_and_warn(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO), pytest.warns(RuntimeWarning, match="step 0: TooLarge .error.: x is 11") as told:
        write_run(tmp_path, [11.0], rules=[TooLarge()], on_finding=[actions.log(), actions.warn()])
    assert told[0].filename.endswith("own_rules.py")
    (record,) = caplog.records
    assert (record.name, record.levelname, record.getMessage()) == (
        "tensometer",
        "ERROR",
        "step 0: TooLarge (error): x is 11",
    )


def test_an_action_that_fails_is_told_in_the_run_and_in_one_warning(tmp_path: Path) -> None:
    def fail(one: Finding) -> None:
        raise OSError(f"no {one.tensor}")

    told: list[Finding] = []
    failing = actions.call(fail, repeated=True)
    with pytest.warns(RuntimeWarning, match="the action .*fail failed: OSError: no x; training goes on") as warned:
        write_run(tmp_path, [11.0] * 12, rules=[TooLarge()], on_finding=[failing, told.append], strict=True)
    assert len(warned) == 1
    assert len(told) == 3
    (problem,) = problems(tmp_path)
    assert problem.endswith("fail failed: OSError: no x")


def test_stop_training_is_raised_behind_the_step(tmp_path: Path) -> None:
    with pytest.raises(StopTraining, match="step 2: TooLarge") as raised:
        write_run(tmp_path, [1.0, 1.0, 11.0, 1.0], rules=[TooLarge()], on_finding=actions.stop_training())
    assert raised.value.finding is not None
    assert raised.value.finding.tensor == "x"
    assert pickle.loads(pickle.dumps(raised.value)).finding == raised.value.finding
    run = open_run(tmp_path)
    assert run.steps().tolist() == [0, 1, 2]
    assert [event.kind for event in run.events()] == ["finding", "stopped", "interrupted", "end"]
    assert run.ended


def test_stop_training_is_for_errors_unless_asked_otherwise(tmp_path: Path) -> None:
    rules = [TooLarge(severity="warning")]
    write_run(tmp_path / "a", [11.0, 11.0], rules=rules, on_finding=actions.stop_training())
    with pytest.raises(StopTraining):
        write_run(tmp_path / "b", [11.0], rules=rules, on_finding=actions.stop_training(severity="warning"))


def test_a_function_may_raise_stop_training_and_the_others_are_called_too(tmp_path: Path) -> None:
    told: list[Finding] = []

    def stop(one: Finding) -> None:
        raise StopTraining("enough", one)

    with pytest.raises(StopTraining, match=r"^enough$"):
        write_run(tmp_path, [11.0], rules=[TooLarge()], on_finding=[stop, told.append])
    assert len(told) == 1


def test_snapshot_stores_the_recorder_and_saves_a_checkpoint(tmp_path: Path) -> None:
    saved: list[int] = []
    snapshot = actions.snapshot(lambda one: saved.append(one.step), repeated=True)
    settings = {"every": 100, "recorder": 4, "collections": ["custom"]}
    with Monitor(tmp_path, rules=[TooLarge()], on_finding=snapshot, **settings) as monitor:
        for step in range(20):
            monitor.record("x", np.full(4, 11.0 if step >= 7 else 1.0, np.float32))
            monitor.step()
    assert saved == [7, 12, 17]
    assert {4, 5, 6, 7, 9, 10, 11, 12} <= set(open_run(tmp_path).steps().tolist())


def test_a_checkpoint_that_fails_does_not_take_the_recorder_with_it(tmp_path: Path) -> None:
    def save(one: Finding) -> None:
        raise OSError("disk full")

    settings = {"every": 100, "recorder": 4, "collections": ["custom"]}
    monitor = Monitor(tmp_path, rules=[TooLarge()], on_finding=actions.snapshot(save), **settings)
    for _ in range(7):
        monitor.record("x", np.ones(4, np.float32))
        monitor.step()
    monitor.record("x", np.full(4, 11.0, np.float32))
    with pytest.warns(RuntimeWarning, match="the action snapshot failed: OSError: disk full"):
        monitor.step()
    monitor.close()
    assert open_run(tmp_path).steps().tolist() == [0, 4, 5, 6, 7]


def test_a_request_in_the_run_stops_the_next_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tensometer.capture.stop_file._LOCAL_SECONDS", 1e-9)
    for _ in range(2):  # what an earlier launch was asked does not stop the next
        with Monitor(tmp_path) as monitor:
            for _ in range(5):
                monitor.step()
            monitor.flush()  # before there is a run, nobody can be asked to stop it
            actions.request_stop(tmp_path)(finding())
            with pytest.raises(StopTraining, match=r"^step 3: TooLarge"):
                monitor.step()
    assert len(open_run(tmp_path).events("stopped")) == 2
    with Monitor(tmp_path) as monitor:
        (tmp_path / "stop.json").write_text("")
        with pytest.raises(StopTraining, match=r"there is a file stop\.json in the run"):
            monitor.step()


def test_a_request_in_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no-run"):
        actions.ask_to_stop(tmp_path / "no-run", "a mistyped path")
    assert not (tmp_path / "no-run").exists()


def test_looking_for_requests_costs_nothing(tmp_path: Path) -> None:
    with Monitor(tmp_path, every=1_000_000) as monitor:
        monitor.step()
        begin = time.perf_counter()
        for _ in range(2000):
            monitor._responder._stop_file.asked()
        assert (time.perf_counter() - begin) / 2000 < 20e-6


def test_a_request_behind_a_url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tensometer.capture.stop_file._REMOTE_SECONDS", 0.02)
    url = f"memory://{tmp_path.name}"
    with Monitor(url) as monitor:
        time.sleep(0.2)
        actions.ask_to_stop(url, "because")
        with pytest.raises(StopTraining, match=r"^because$"):
            step_for_a_while(monitor)


def step_for_a_while(monitor: Monitor) -> None:
    for _ in range(500):
        monitor.step()
        time.sleep(0.01)


def test_a_signal_to_the_process() -> None:
    heard: list[int] = []
    before = signal.signal(signal.SIGUSR1, lambda number, _: heard.append(number))
    try:
        actions.signal_process(os.getpid(), signal.SIGUSR1)(finding())
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert heard == [signal.SIGUSR1]
    with pytest.raises(ValueError, match="process: 0 is not the number of a process"):
        actions.signal_process(0)


def test_the_child_of_a_fork_does_nothing(tmp_path: Path) -> None:
    action = actions.command(["touch", str(tmp_path / "made")])
    runner = actions.Runner([action], run="r", rules=[], told=print)
    runner.begin()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        runner.run(finding())
        runner.close(5.0)
        os._exit(0)
    os.waitpid(child, 0)
    runner.close(5.0)
    assert not (tmp_path / "made").exists()


def test_findings_are_json(tmp_path: Path) -> None:
    body = json.loads(actions.outside.body(finding(value=float("nan")), "runs/a"))
    assert body["text"] == "runs/a: step 3: TooLarge (error): x is 11"
    assert body["finding"]["value"] == "nan"
    assert body["run"] == "runs/a"


def test_a_failed_attempt_does_not_use_up_the_limit(tmp_path: Path) -> None:
    tried: list[int] = []

    def fail_at_first(one: Finding) -> None:
        tried.append(one.step)
        if len(tried) == 1:
            raise OSError("away")

    action = actions.call(fail_at_first, most=1, repeated=True)
    with pytest.warns(RuntimeWarning, match="away"):
        write_run(tmp_path, [11.0] * 20, rules=[TooLarge()], on_finding=action)
    assert tried == [0, 5]


def test_a_rule_that_ends_the_interpreter_does_not_end_the_training(tmp_path: Path) -> None:
    class Leaves(TooLarge):
        def check(self, step: Step, state: State) -> Iterator[Condition]:
            raise SystemExit(3)

    with pytest.warns(RuntimeWarning, match=r"the rule Leaves is asked no more: .*SystemExit\(3\); training goes on"):
        write_run(tmp_path, [11.0] * 3, rules=[Leaves()])
    assert len(problems(tmp_path)) == 1


def test_in_the_child_of_a_fork_nothing_is_judged(tmp_path: Path) -> None:
    heard = tmp_path / "heard"
    monitor = Monitor(tmp_path / "run", every=1, rules=[TooLarge()], on_finding=lambda _: heard.write_text("x"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        monitor.record("x", np.full(4, 11.0, np.float32))
        monitor.step()
        os._exit(0)
    os.waitpid(child, 0)
    monitor.close()
    assert not heard.exists()
