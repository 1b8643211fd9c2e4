"""`tensometer watch` where something cannot be written or read."""

import errno
import os
import shutil
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from own_rules import write_run
from tensometer import Finding
from tensometer.rules import Severity
from tensometer.watch import FindingsFile
from watching import copy_begun, counting, lines, once, segments, until, watched


def refuse(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """No file of findings can be written to, as the error of that number says."""
    whole = Path.open

    def refused(self: Path, mode: str = "r", *arguments: Any, **more: Any) -> Any:
        if self.name == "findings.jsonl" and "a" in mode:
            raise OSError(number, os.strerror(number), str(self))
        return whole(self, mode, *arguments, **more)

    monkeypatch.setattr(Path, "open", refused)


@pytest.mark.parametrize("number", [errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.ENOTDIR])
def test_a_run_that_takes_no_findings_is_judged_to_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    refuse(monkeypatch, number)
    told: list[Finding] = []
    write_run(tmp_path, [11.0] * 7)
    with watched(tmp_path, actions=counting(told)) as (seen, outcome):
        pass
    assert seen.steps == [one.step for one in told] == [0, 5]
    reason = os.strerror(number)
    sentence = f"{tmp_path / 'findings.jsonl'}: {reason[0].lower()}{reason[1:]}; findings are not written"
    assert seen.notes == [sentence]
    assert outcome[0].statuses[str(tmp_path)].ended
    assert outcome[0].worst == Severity.ERROR


def test_what_a_read_only_run_was_found_with_before_is_not_acted_on_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[Finding] = []
    write_run(tmp_path, [11.0])
    once(tmp_path)
    write_run(tmp_path, [11.0])
    refuse(monkeypatch, errno.EROFS)
    assert once(tmp_path, actions=counting(told))[0].steps == [0, 1]
    assert [one.step for one in told] == [1]


def test_a_device_is_no_file_to_read_findings_from(tmp_path: Path) -> None:
    write_run(tmp_path / "run", [11.0])
    (tmp_path / "run" / "findings.jsonl").symlink_to("/dev/full")  # can be read for ever
    told: list[Finding] = []
    with watched(tmp_path / "run", actions=counting(told)) as (seen, _):
        pass
    assert len(told) == 1
    assert "no space left on device" in seen.notes[0]


def test_findings_that_could_not_be_written_for_a_while_are_later_and_acted_on_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tensometer.watch.followed._FILE_SECONDS", 0.0)
    away, whole, told = threading.Event(), FindingsFile.add, list[Finding]()

    def add(self: FindingsFile, findings: Any) -> list[bool]:
        if away.is_set():
            raise OSError(errno.EIO, "input/output error", "findings.jsonl")
        return whole(self, findings)

    monkeypatch.setattr(FindingsFile, "add", add)
    away.set()
    with watched(tmp_path, actions=counting(told)) as (seen, _):
        write_run(tmp_path, [11.0], rank=0, world_size=2)
        until(lambda: told)
        assert not (tmp_path / "findings.jsonl").exists()
        away.clear()
        write_run(tmp_path, [1.0, 11.0], rank=1, world_size=2)
    assert [(line["rank"], line["step"]) for line in lines(tmp_path)] == [(0, 0), (1, 1)]
    assert [(one.rank, one.step) for one in told] == [(0, 0), (1, 1)]
    assert seen.notes == [
        "findings.jsonl: input/output error; findings are not written",
        f"{tmp_path}: findings are written again",
    ]
    assert once(tmp_path, actions=counting(told))[0].steps == [0, 1]
    assert len(told) == 2


def spoil(file: Path, how: str) -> None:
    """Something that cannot be read where a segment was."""
    file.unlink()
    if how == "a folder":
        file.mkdir()
    elif how == "a loop":
        file.symlink_to(file)
    elif how == "nowhere":
        file.symlink_to(file.with_name("nothing"))
    else:
        file.write_bytes(b"nothing")


@pytest.mark.parametrize("options", [{"once": True}, {"timeout": 0.5}, {}])
@pytest.mark.parametrize("how", ["a folder", "a loop", "nowhere", "damaged"])
def test_a_segment_that_cannot_be_read_is_told_once_and_passed_by(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str, options: dict[str, Any]
) -> None:
    monkeypatch.setattr("tensometer.watch.followed._PATIENCE", 0.1)
    spoil(segments(tmp_path, 6)[1], how)
    with watched(tmp_path, **options) as (seen, outcome):
        pass
    (note,) = seen.notes
    assert note.startswith(f"{tmp_path}: rank-00000/000000001.tmz: ")
    assert note.endswith("; it is skipped")
    assert seen.steps == [2]
    assert outcome[0].failed == {}
    assert outcome[0].statuses[str(tmp_path)].ended


def test_one_sentence_for_all_segments_that_are_missing_together(tmp_path: Path) -> None:
    files = segments(tmp_path, 6)
    for file in files[1:5]:
        file.unlink()
    seen, outcome = once(tmp_path)
    assert seen.notes == [f"{tmp_path}: rank-00000/000000001.tmz to 000000004.tmz: are missing; they are skipped"]
    assert outcome.statuses[str(tmp_path)].observed == 2


def test_what_comes_after_it_was_passed_by_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tensometer.watch.followed._PATIENCE", 0.1)
    segments(tmp_path / "run", 3)
    files = segments(tmp_path / "run", 6)  # continued: rules begin anew
    copy_begun(tmp_path / "run", tmp_path / "copy")
    target = tmp_path / "copy" / "rank-00000"
    with watched(tmp_path / "copy") as (seen, _):
        for file in (*files[:2], *files[3:9]):
            shutil.copy(file, target)
        until(lambda: seen.steps == [5])
        shutil.copy(files[2], target)
        time.sleep(0.3)
        for file in files[9:]:
            shutil.copy(file, target)
    assert seen.steps == [5]


@pytest.mark.parametrize("options", [{"once": True}, {"timeout": 0.5}])
def test_a_run_of_which_nothing_can_be_read_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any]
) -> None:
    monkeypatch.setattr("tensometer.watch.followed._PATIENCE", 0.1)
    for file in segments(tmp_path, 2):
        file.write_bytes(b"nothing")
    with watched(tmp_path, **options) as (_, outcome):
        pass
    assert outcome[0].failed == {str(tmp_path): f"{tmp_path}: no segment of it can be read"}


def test_a_run_that_cannot_be_read_any_more_is_told_when_the_time_is_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_run(tmp_path, [11.0], rank=0, world_size=2)
    whole, gone = Path.iterdir, threading.Event()

    def refused(self: Path) -> Any:
        if gone.is_set() and self.is_relative_to(tmp_path):
            raise OSError(errno.ESTALE, "stale file handle", str(self))
        return whole(self)

    monkeypatch.setattr(Path, "iterdir", refused)
    with watched(tmp_path, timeout=0.5) as (seen, outcome):
        until(lambda: seen.findings)
        gone.set()
    assert seen.notes == [f"{tmp_path}: stale file handle; it is tried again"]
    assert outcome[0].failed == {str(tmp_path): f"{tmp_path}: stale file handle, after 0.5 seconds"}
