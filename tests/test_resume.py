"""Where a run goes on: behind the last step that was reached, the same for every rank."""

import subprocess
import sys
from pathlib import Path

import pytest
from run_records import write
from tensometer import Monitor, open_run
from tensometer.store import RunWriter

# Trains for some steps, and is killed once they are stored.
KILLED = """
import os, signal, sys
from tensometer import Monitor

place, rank, steps = sys.argv[1], *map(int, sys.argv[2:])
monitor = Monitor(place, every=1, rank=rank, world_size=3)
first = monitor.current_step
for _ in range(steps):
    monitor.step(loss=float(monitor.current_step))
monitor.flush()
print(first, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def killed(place: Path, rank: int, steps: int) -> int:
    """The step that a process began with."""
    command = [sys.executable, "-c", KILLED, str(place), str(rank), str(steps)]
    return int(subprocess.run(command, capture_output=True, text=True, timeout=60, check=False).stdout)


def begins(place: Path, rank: int, steps: int, world_size: int = 2) -> int:
    with Monitor(place, every=1, rank=rank, world_size=world_size) as monitor:
        first = monitor.current_step
        for _ in range(steps):
            monitor.step(loss=1.0)
    return first


def test_steps_that_are_not_captured_count(tmp_path: Path) -> None:
    for part in range(3):
        with Monitor(tmp_path, every=10) as monitor:
            assert monitor.current_step == 19 * part
            for _ in range(19):
                monitor.step(loss=float(monitor.current_step))
    run = open_run(tmp_path)
    assert run.series("loss").steps.tolist() == run.series("loss")["mean"].tolist() == [0, 10, 20, 30, 40, 50]
    assert [event.step for event in run.events("end")] == [18, 37, 56]


def test_old_steps_that_a_recorder_stores_last_do_not_count(tmp_path: Path) -> None:
    with Monitor(tmp_path, every=10, recorder=9) as monitor:
        for _ in range(21):
            monitor.step(loss=1.0)
        assert monitor.flush()
        monitor.dump()
        assert monitor.flush()
        assert RunWriter(tmp_path).last_step() == 20  # as after a crash: without an end


def test_a_launch_without_a_step_changes_nothing(tmp_path: Path) -> None:
    assert begins(tmp_path, 0, 5) == 0
    assert begins(tmp_path, 0, 0) == 5
    assert begins(tmp_path, 0, 1) == 5


def test_the_number_of_the_loop_counts(tmp_path: Path) -> None:
    with Monitor(tmp_path, every=10) as monitor:
        monitor.resume_at(1003)
        monitor.step(loss=1.0)
    assert open_run(tmp_path).steps().tolist() == []
    assert begins(tmp_path, 0, 0) == 1004


def test_all_ranks_go_on_at_one_step(tmp_path: Path) -> None:
    """Behind the one that came furthest before; not behind one that is only faster in this launch."""
    assert [begins(tmp_path, 0, 7), begins(tmp_path, 1, 4)] == [0, 0]
    assert [begins(tmp_path, 0, 3), begins(tmp_path, 1, 1)] == [7, 7]
    assert [begins(tmp_path, 1, 1), begins(tmp_path, 0, 1)] == [10, 10]
    assert begins(tmp_path, 1, 1) == 11


def test_ranks_that_were_killed_before_they_stored_anything(tmp_path: Path) -> None:
    """Processes of their own, whose beginning tells what was stored before it."""
    assert killed(tmp_path, 0, 6) == 0
    assert killed(tmp_path, 1, 2) == 6
    assert killed(tmp_path, 0, 1) == 8


def test_segments_that_cannot_be_read(tmp_path: Path) -> None:
    for step in range(4):
        write(tmp_path, range(step, step + 1))
    for number in (3, 2):
        (tmp_path / "rank-00000" / f"{number:09d}.tmz").write_bytes(b"damaged")
    assert RunWriter(tmp_path).last_step() == 1


def test_a_place_that_cannot_be_read(tmp_path: Path) -> None:
    write(tmp_path, range(4))
    (tmp_path / "rank-00000" / "000000000.tmz").unlink()
    (tmp_path / "rank-00000" / "000000000.tmz").mkdir()
    writer = RunWriter(tmp_path)
    with pytest.warns(RuntimeWarning, match="cannot be read: IsADirectoryError"):
        assert writer.last_step() == -1
