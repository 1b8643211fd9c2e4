"""The flight recorder: the steps before an accident are always there."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tensometer import Monitor, open_run

PROGRAM = """
import os, signal, sys
from tensometer import Monitor
monitor = Monitor(sys.argv[1], every=100, recorder=5)
for step in range(20):
    monitor.step(loss=float(step))
"""


def trained(monitor: Monitor, steps: int) -> None:
    for step in range(steps):
        monitor.step(loss=float(step))


def recorded(path: Path) -> list[int]:
    return open_run(path).series("loss").steps.tolist()


def test_nothing_happens(tmp_path: Path) -> None:
    with Monitor(tmp_path, every=10, recorder=5) as monitor:
        trained(monitor, 25)
    assert recorded(tmp_path) == [0, 10, 20]
    assert open_run(tmp_path).events("recorder") == []


def test_on_request(tmp_path: Path) -> None:
    with Monitor(tmp_path, every=10, recorder=5) as monitor:
        trained(monitor, 19)
        monitor.dump("loss jumped")
        trained(monitor, 1)
    run = open_run(tmp_path)
    assert run.series("loss").steps.tolist() == [0, 10, 14, 15, 16, 17, 18]
    assert run.series("loss")["mean"].tolist() == [0, 10, 14, 15, 16, 17, 18]
    assert [event.data for event in run.events("recorder")] == [{"reason": "loss jumped", "first": 14, "last": 18}]


def test_on_an_exception(tmp_path: Path) -> None:
    def training() -> None:
        with Monitor(tmp_path, every=10, recorder=3) as monitor:
            trained(monitor, 9)
            raise ZeroDivisionError("no batch")

    with pytest.raises(ZeroDivisionError):
        training()
    assert recorded(tmp_path) == [0, 6, 7, 8]
    assert open_run(tmp_path).events("recorder")[0].data["reason"] == "ZeroDivisionError: no batch"


@pytest.mark.parametrize(
    ("ending", "code", "steps"),
    [
        ("os.kill(os.getpid(), signal.SIGTERM)", -signal.SIGTERM, [0, 15, 16, 17, 18, 19]),
        ("raise ValueError('x')", 1, [0, 15, 16, 17, 18, 19]),
        ("sys.exit(3)", 3, [0]),
        ("", 0, [0]),
    ],
)
def test_however_the_process_ends(tmp_path: Path, ending: str, code: int, steps: list[int]) -> None:
    program = [sys.executable, "-c", PROGRAM + ending, str(tmp_path / "run")]
    assert subprocess.run(program, stderr=subprocess.DEVNULL, check=False, timeout=60).returncode == code
    assert recorded(tmp_path / "run") == steps


def test_a_handler_that_was_there_is_called_too(tmp_path: Path) -> None:
    ending = "os.kill(os.getpid(), signal.SIGTERM); sys.exit(len(heard))"
    before = "import signal\nheard = []\nsignal.signal(signal.SIGTERM, lambda *_: heard.append(1))\n"
    program = [sys.executable, "-c", before + PROGRAM + ending, str(tmp_path / "run")]
    assert subprocess.run(program, check=False, timeout=60).returncode == 1
    assert recorded(tmp_path / "run") == [0, 15, 16, 17, 18, 19]


def test_the_signal_is_given_back(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGTERM)
    with Monitor(tmp_path / "a", recorder=3):
        assert signal.getsignal(signal.SIGTERM) != before
    assert signal.getsignal(signal.SIGTERM) == before
    with Monitor(tmp_path / "b"):
        assert signal.getsignal(signal.SIGTERM) == before
