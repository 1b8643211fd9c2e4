"""`tensometer watch` and what it is made of: runs that are judged by another process than the one that trains."""

import json
import shutil
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from own_rules import TooLarge, finding, write_run
from tensometer import Finding, Monitor, StopTraining, actions, open_run
from tensometer.replay import evaluate
from tensometer.rules import Severity
from tensometer.store import RunWriter, open_place
from tensometer.watch import FindingsFile, Options, watch
from watching import RULES, Seen, copy_begun, counting, lines, once, segments, until, watched


def test_findings_are_those_of_the_run_and_written_into_it(tmp_path: Path) -> None:
    write_run(tmp_path, [1.0] * 3 + [11.0] * 9)
    seen, outcome = once(tmp_path)
    assert [one for _, one in seen.findings] == evaluate(tmp_path, RULES)
    assert [Finding.from_dict(line) for line in lines(tmp_path)] == evaluate(tmp_path, RULES)
    assert {line["run"] for line in lines(tmp_path)} == {str(tmp_path)}
    assert outcome.worst == Severity.ERROR
    assert outcome.statuses[str(tmp_path)].ended
    assert open_run(tmp_path).steps().tolist() == list(range(12))  # the file is no matter of the run


def test_a_watch_waits_for_the_run_and_ends_with_it(tmp_path: Path) -> None:
    run = tmp_path / "later" / "run"
    with watched(run) as (seen, outcome):
        time.sleep(0.3)
        with Monitor(run, every=1, collections=["custom"], flush_seconds=0.05) as monitor:
            for step in range(4):
                monitor.record("x", np.full(4, 11.0 if step == 2 else 1.0, np.float32))
                monitor.step()
            until(lambda: seen.findings)
            assert not outcome
    assert seen.steps == [2]
    assert (seen.statuses[0].ended, seen.notes) == (True, [])


def test_a_timeout_ends_the_wait(tmp_path: Path) -> None:
    with watched(tmp_path / "missing", timeout=0.3) as (_, outcome):
        pass
    assert "there is no run yet, after 0.3 seconds" in outcome[0].failed[str(tmp_path / "missing")]
    writer = RunWriter(tmp_path / "stalled")
    writer.flush()
    with watched(tmp_path / "stalled", timeout=0.3) as (seen, outcome):
        pass
    assert outcome[0].failed == {}
    assert seen.notes == [f"{tmp_path / 'stalled'}: nothing new for 0.3 seconds; it is watched no longer"]
    writer.close()


def test_a_restart_repeats_nothing(tmp_path: Path) -> None:
    told: list[Finding] = []
    write_run(tmp_path, [11.0] * 7)
    once(tmp_path, actions=counting(told))
    assert [one.step for one in told] == [0, 5]
    # By another path, and after a crash in the midst of a line.
    with (tmp_path / "findings.jsonl").open("a") as stream:
        stream.write('{"rule": "Too')
    write_run(tmp_path, [11.0] * 7)
    for _ in range(2):
        seen, outcome = once(tmp_path / ".." / tmp_path.name, actions=counting(told))
        assert [one.step for one in told] == [0, 5, 7, 12]  # rules begin anew with the process, as those beside it do
        assert seen.steps == [0, 5, 7, 12]  # they are shown
        assert outcome.worst == Severity.ERROR  # and count
    assert len((tmp_path / "findings.jsonl").read_text().splitlines()) == 5


def test_one_file_for_several_runs(tmp_path: Path) -> None:
    told: list[Finding] = []
    for name in ("a", "b"):
        write_run(tmp_path / name, [11.0])
    for _ in range(2):
        once(tmp_path / "a", tmp_path / "b", findings=tmp_path / "all.jsonl", actions=counting(told))
    assert len(told) == 2
    runs = [json.loads(line)["run"] for line in (tmp_path / "all.jsonl").read_text().splitlines()]
    assert runs == [str(tmp_path / "a"), str(tmp_path / "b")]
    assert not (tmp_path / "a" / "findings.jsonl").exists()


def test_findings_that_cannot_be_written_are_told_and_acted_on(tmp_path: Path) -> None:
    told: list[Finding] = []
    write_run(tmp_path, [11.0])
    (tmp_path / "findings.jsonl").mkdir()
    seen, _ = once(tmp_path, actions=counting(told))
    assert len(told) == 1
    assert seen.notes == [f"{tmp_path / 'findings.jsonl'}: is a directory; findings are not written"]


def test_segments_that_come_late_are_judged_in_their_order(tmp_path: Path) -> None:
    files = segments(tmp_path / "run", 6)
    copy_begun(tmp_path / "run", tmp_path / "copy")
    with watched(tmp_path / "copy") as (seen, _):
        for file in (files[0], files[1], files[4], files[6], files[5], files[3], files[2]):
            shutil.copy(file, tmp_path / "copy" / "rank-00000")
            time.sleep(0.1)
    assert [one for _, one in seen.findings] == evaluate(tmp_path / "run", RULES)
    assert seen.notes == []


def test_a_segment_that_is_being_copied_is_waited_for(tmp_path: Path) -> None:
    files = segments(tmp_path / "run", 3)
    copy_begun(tmp_path / "run", tmp_path / "copy")
    with watched(tmp_path / "copy") as (seen, _):
        for file in files:
            target = tmp_path / "copy" / "rank-00000" / file.name
            target.write_bytes(file.read_bytes()[:100])
            time.sleep(0.2)
            target.write_bytes(file.read_bytes())
    assert seen.steps == [2]
    assert seen.notes == []


def test_what_is_missing_or_damaged_for_good_is_told_and_passed_by(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tensometer.watch.followed._PATIENCE", 0.2)
    files = segments(tmp_path, 6)
    files[1].unlink()
    files[3].write_bytes(b"nothing")
    with watched(tmp_path) as (seen, _):
        pass
    assert seen.steps == [2]
    missing, damaged = seen.notes
    assert missing == f"{tmp_path}: rank-00000/000000001.tmz: is missing; it is skipped"
    assert damaged.startswith(f"{tmp_path}: rank-00000/000000003.tmz: ")
    assert damaged.endswith("; it is skipped")


def test_ranks_may_join_late(tmp_path: Path) -> None:
    with watched(tmp_path) as (seen, outcome):
        write_run(tmp_path, [1.0] * 3, rank=0, world_size=2)
        time.sleep(0.3)
        assert not outcome
        write_run(tmp_path, [1.0, 11.0], rank=1, world_size=2)
    assert [(one.rank, one.step) for _, one in seen.findings] == [(1, 1)]
    assert seen.statuses[0].ranks == 2


def test_many_runs_at_once(tmp_path: Path) -> None:
    runs = [tmp_path / str(number) for number in range(5)]
    with watched(*runs) as (seen, outcome):
        for number, run in reversed(list(enumerate(runs))):
            write_run(run, [11.0 if number % 2 else 1.0])
            time.sleep(0.1)
    assert sorted(run for run, _ in seen.findings) == [str(runs[1]), str(runs[3])]
    assert all(status.ended for status in outcome[0].statuses.values())
    assert list(outcome[0].statuses) == [str(run) for run in runs]  # whichever came first


def test_a_run_that_cannot_be_read_does_not_take_the_others_with_it(tmp_path: Path) -> None:
    write_run(tmp_path / "good", [11.0])
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "run.json").write_text("{")
    for options in ({"once": True}, {}):
        seen = Seen()
        outcome = watch([str(tmp_path / "bad"), str(tmp_path / "good")], Options(RULES, **options), seen)
        assert seen.steps == [0]
        assert "run.json is not valid JSON" in outcome.failed[str(tmp_path / "bad")]
        assert list(outcome.failed) == [str(tmp_path / "bad")]


def test_a_bucket_may_go_away_for_a_while(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tensometer.watch.watching._REMOTE_SECONDS", 0.02)
    fsspec = pytest.importorskip("fsspec")
    kind = type(fsspec.filesystem("memory"))
    gone = threading.Event()
    for name in ("ls", "cat_file", "pipe_file"):
        whole = getattr(kind, name)

        def may_fail(self: Any, *args: Any, whole: Any = whole, **more: Any) -> Any:
            if gone.is_set() and threading.current_thread() in watchers:
                raise ConnectionError("no route to the bucket")
            return whole(self, *args, **more)

        monkeypatch.setattr(kind, name, may_fail)
    watchers: set[threading.Thread] = set()
    told: list[Finding] = []
    url = f"memory://{tmp_path.name}"
    before = set(threading.enumerate())
    with watched(url, actions=counting(told)) as (seen, _):
        until(lambda: len(set(threading.enumerate()) - before) >= 2)
        watchers |= set(threading.enumerate()) - before
        with Monitor(url, every=1, collections=["custom"], flush_seconds=0.02) as monitor:
            for step in range(6):
                gone.set() if step in (2, 3) else gone.clear()
                monitor.record("x", np.full(4, 11.0 if step >= 2 else 1.0, np.float32))
                monitor.step()
                time.sleep(0.15)
    assert seen.steps == [2]
    assert seen.notes == [f"{url}: no route to the bucket; it is tried again", f"{url}: is back"]
    assert len(told) == 1
    place = open_place(url)
    assert [json.loads(line)["step"] for line in place.read("findings.jsonl").splitlines()] == [2]
    # Another watch finds it there.
    once(url, actions=counting(told))
    assert len(told) == 1


def test_looking_for_news_never_waits_for_ever() -> None:
    def look() -> None:
        for _ in range(20_000):
            once()

    looking = threading.Thread(target=look, daemon=True)
    looking.start()
    looking.join(60.0)
    assert not looking.is_alive()


@pytest.mark.parametrize("events", [True, False])
def test_a_finding_follows_its_segment_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, events: bool) -> None:
    if not events:
        monkeypatch.setattr("tensometer.watch.changes.available", lambda _: None)
    else:
        pytest.importorskip("watchfiles")
    written: list[float] = []
    with watched(tmp_path, rules=[TooLarge(cooldown=0)]) as (seen, _):
        settings = {"every": 1, "collections": ["custom"], "flush_seconds": 60.0}
        with Monitor(tmp_path, **settings) as monitor:
            for step in range(8):
                monitor.record("x", np.full(4, 11.0, np.float32))
                monitor.step()
                monitor.flush()
                written.append(time.perf_counter())
                until(lambda step=step: len(seen.findings) > step)
                time.sleep(0.05 * (step % 3))
    waits = sorted(found - stored for stored, found in zip(written, seen.times, strict=True))
    assert waits[len(waits) // 2] < 0.1
    assert waits[-1] < 2.0


def test_a_watch_may_stop_the_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tensometer.capture.stop_file._LOCAL_SECONDS", 0.05)
    with watched(tmp_path, actions=lambda: [actions.request_stop()]) as (seen, _):
        settings = {"every": 1, "collections": ["custom"], "flush_seconds": 0.02}
        with Monitor(tmp_path, **settings) as monitor, pytest.raises(StopTraining, match="step 3: TooLarge"):
            train_for_ever(monitor)
    assert seen.steps[0] == 3
    assert seen.notes == []


def test_what_an_earlier_launch_was_found_with_stops_no_later_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tensometer.capture.stop_file._LOCAL_SECONDS", 1e-9)
    write_run(tmp_path, [11.0] * 3)
    settings = {"every": 1, "collections": ["custom"], "flush_seconds": 0.02}
    with Monitor(tmp_path, **settings) as monitor:
        monitor.record("x", np.ones(4, np.float32))
        monitor.step()
        monitor.flush()
        with watched(tmp_path, actions=lambda: [actions.request_stop()]) as (seen, _):
            until(lambda: (tmp_path / "stop.json").exists())
            monitor.step()
            with monitor, pytest.raises(StopTraining, match="step 8: TooLarge"):  # of this launch
                train_for_ever(monitor)
    assert seen.steps[:2] == [0, 8]


def train_for_ever(monitor: Monitor) -> None:
    for step in range(10_000):
        monitor.record("x", np.full(4, 11.0 if step >= 3 else 1.0, np.float32))
        monitor.step()
        time.sleep(0.005)


def test_an_action_that_fails_is_told(tmp_path: Path) -> None:
    write_run(tmp_path, [11.0])
    seen, _ = once(tmp_path, actions=lambda: [actions.command("no-such-program")])
    assert seen.notes == ["the action command no-such-program failed: cannot be run: No such file or directory"]


def test_a_rule_that_raises_is_told_and_asked_no_more(tmp_path: Path) -> None:
    class Broken(TooLarge):
        """A mistake."""

        def check(self, step: Any, state: Any) -> Any:
            raise ZeroDivisionError("oh")

    write_run(tmp_path, [11.0] * 3)
    seen = Seen()
    watch([str(tmp_path)], Options([Broken(), TooLarge()], once=True), seen)
    assert seen.notes == [f"{tmp_path}: the rule Broken is asked no more: ZeroDivisionError: oh"]
    assert seen.steps == [0]


def test_the_file_keeps_what_it_is_given_once(tmp_path: Path) -> None:
    file = FindingsFile.of_run(tmp_path)
    assert file.add([("r", finding(step=1)), ("r", finding(step=1)), ("r", finding(step=2))]) == [True, False, True]
    (tmp_path / "findings.jsonl").write_bytes((tmp_path / "findings.jsonl").read_bytes() + b'\xff\n[1]\n{"step": 1}\n')
    again = FindingsFile.of_run(tmp_path)
    assert again.add([("r", finding(step=2)), ("r", finding(step=2, rank=1))]) == [False, True]
