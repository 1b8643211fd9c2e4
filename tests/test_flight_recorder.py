"""The flight recorder: the steps before an accident are always there."""

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tensometer import Monitor, open_run
from torch import nn

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


FLAG = "asked = []\nsignal.signal(signal.SIGTERM, lambda *_: asked.append(1))\n"
IGNORED = "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"


@pytest.mark.parametrize("before", [FLAG, IGNORED])
def test_capture_goes_on_where_the_process_does(tmp_path: Path, before: str) -> None:
    ending = """
for step in range(20, 30):
    os.kill(os.getpid(), signal.SIGTERM)
    monitor.step(loss=float(step))
"""
    program = [sys.executable, "-c", "import signal\n" + before + PROGRAM + ending, str(tmp_path / "run")]
    assert subprocess.run(program, check=False, timeout=60).returncode == 0
    assert recorded(tmp_path / "run") == [0, *range(15, 29)]
    assert len(open_run(tmp_path / "run").events("end")) == 1


def test_a_process_that_was_forked_ends_at_once(tmp_path: Path) -> None:
    ending = """
child = os.fork()
if child == 0:
    os.kill(os.getpid(), signal.SIGTERM)
    sys.exit(5)
_, status = os.waitpid(child, 0)
sys.exit(os.waitstatus_to_exitcode(status) != -signal.SIGTERM)
"""
    program = [sys.executable, "-c", PROGRAM + ending, str(tmp_path / "run")]
    assert subprocess.run(program, check=False, timeout=4).returncode == 0
    assert open_run(tmp_path / "run").events("recorder") == []


@pytest.mark.parametrize("closing", ["", "monitor.close()", "monitor.close(); second.close()"])
def test_two_recorders_and_one_signal(tmp_path: Path, closing: str) -> None:
    ending = f"""
second = Monitor(sys.argv[1] + "-2", every=100, recorder=2)
second.step(loss=0.0)
second.step(loss=1.0)
{closing}
os.kill(os.getpid(), signal.SIGTERM)
"""
    program = [sys.executable, "-c", PROGRAM + ending, str(tmp_path / "run")]
    assert subprocess.run(program, check=False, timeout=60).returncode == -signal.SIGTERM
    ended = [open_run(tmp_path / name).events("end") for name in ("run", "run-2")]
    assert [len(events) for events in ended] == [1, 1]
    first, second = (open_run(tmp_path / name).events("recorder") for name in ("run", "run-2"))
    assert (len(first), len(second)) == ("monitor" not in closing, "second" not in closing)


def test_the_signal_is_given_back_in_any_order(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGTERM)
    for order in (1, -1):
        monitors = [Monitor(tmp_path / f"{order}-{one}", recorder=3) for one in range(3)]
        for monitor in monitors[::order]:
            monitor.close()
        assert signal.getsignal(signal.SIGTERM) == before


def test_whole_tensors_are_kept_of_stored_steps_alone(tmp_path: Path) -> None:
    with Monitor(tmp_path, every=10, recorder=5, collections={"custom": {"save": "raw"}}) as monitor:
        for step in range(15):
            monitor.record("x", np.arange(3.0) + step)
            monitor.step()
        monitor.dump()
    run = open_run(tmp_path)
    assert [event.step for event in run.events("raw")] == [0, 10]
    assert run.series("x").steps.tolist() == [0, 9, 10, 11, 12, 13, 14]


def test_the_step_in_progress_counts_too(tmp_path: Path) -> None:
    """Of a step that an exception breaks off, what was captured is stored; and what was not finite in it is told."""
    model = nn.Sequential(nn.Linear(4, 3), nn.ReLU())

    def training(place: Path, **settings: Any) -> None:
        with Monitor(place, collections={"activations": True}, **settings) as monitor:
            monitor.attach(model)
            for step in range(5):
                x = torch.full((2, 4), float("nan") if step == 3 else 1.0)
                if not torch.isfinite(model(x)).all():
                    raise FloatingPointError("not finite")
                monitor.step()

    for settings in ({"every": 1}, {"every": 2, "recorder": 10}):
        place = tmp_path / str(settings["every"])
        with pytest.raises(FloatingPointError):
            training(place, **settings)
        run = open_run(place)
        assert run.series("0").steps.tolist() == [0, 1, 2, 3]
        assert run.series("0.weight").steps.tolist() == [0, 1, 2]
        (event,) = run.events("nonfinite")
        assert (event.step, event.data) == (3, {"where": "input", "inputs": ["input.0"]})
        (end,) = run.events("interrupted")
        assert (end.step, end.data) == (3, {"reason": "FloatingPointError: not finite"})


def test_the_signal_is_given_back(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGTERM)
    with Monitor(tmp_path / "a", recorder=3):
        assert signal.getsignal(signal.SIGTERM) != before
    assert signal.getsignal(signal.SIGTERM) == before
    with Monitor(tmp_path / "b"):
        assert signal.getsignal(signal.SIGTERM) == before
