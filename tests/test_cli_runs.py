"""`tensometer ls` and `show`: a run as a person reads it."""

from pathlib import Path

import numpy as np
import pytest
import tensometer
from commands import run
from tensometer.report.sparkline import trend


@pytest.fixture
def place(tmp_path: Path) -> Path:
    with tensometer.Monitor(tmp_path / "run", every=1, collections=["custom", "losses"]) as monitor:
        for step in range(30):
            monitor.record("x\x1b[31m", np.full(4, step, np.float32))
            monitor.step(loss=1 / (step + 1))
    return tmp_path / "run"


def test_ls(place: Path) -> None:
    result = run("ls", place)
    assert (result.returncode, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    assert lines[0].split()[:8] == ["collection", "name", "dtype", "shape", "rows", "first", "last", "l2"]
    assert lines[1].split()[:7] == ["custom", r"x\x1b[31m", "float32", "4", "30", "0", "29"]
    assert lines[1].split()[-1] == trend(np.arange(30.0))
    assert lines[2].split()[:4] == ["losses", "loss", "float64", "scalar"]
    assert lines[3] == "2 series, 30 steps from 0 to 29, ranks 1"
    assert len(run("ls", place, "--collection", "losses").stdout.splitlines()) == 3
    assert len(run("ls", place, "--filter", "^x").stdout.splitlines()) == 3


def test_show(place: Path) -> None:
    lines = run("show", place, "loss", "--statistics", "mean,count", "--last", "2").stdout.splitlines()
    assert [line.split() for line in lines[:3]] == [
        ["step", "phase", "mean", "count"],
        ["28", "train", "0.0344828", "1"],
        ["29", "train", "0.0333333", "1"],
    ]
    assert lines[4].startswith("mean   █")
    assert lines[-1] == "loss: 2 of 30 rows, float64 []"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("ls", "missing"), "missing: there is no run here (no run.json)"),
        (("ls", ""), "url: the path is empty"),
        (("ls", "{run}", "--collection", "weights"), "nothing was recorded that was asked for"),
        (("ls", "{run}", "--collection", "loses"), "collection: 'loses' is not in the run; the nearest are losses"),
        (("show", "{run}", "loss", "--phase", "evl"), "phase: 'evl' is not in the run; the nearest are eval"),
        (("show", "{run}", "los"), "'los' was not recorded; the nearest are loss"),
        (("show", "{run}", "loss", "--statistics", "l7"), "statistic: 'l7' is unknown"),
        (("show", "{run}", "loss", "--last", "0"), "must be a positive integer"),
    ],
)
def test_bad_input_is_one_sentence(place: Path, arguments: tuple[str, ...], sentence: str) -> None:
    result = run(*[str(place) if argument == "{run}" else argument for argument in arguments])
    assert (result.returncode, result.stdout) == (2, "")
    assert sentence in result.stderr
    assert "Traceback" not in result.stderr


def test_trends() -> None:
    assert trend(np.arange(8.0)) == "▁▂▃▄▅▆▇█"
    assert trend(np.array([1.0, np.nan, 1.0])) == "▁ ▁"
    assert trend(np.array([np.inf])) == " "
    assert len(trend(np.arange(1000.0))) == 20
    assert trend(np.zeros(0)) == ""
