"""A monitor that is used wrongly says so, and harms no training."""

import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tensometer import Monitor, open_run
from torch import distributed, nn
from torch.testing._internal.distributed.fake_pg import FakeStore


@pytest.mark.parametrize(
    ("misuse", "error", "message"),
    [
        (lambda monitor: monitor.resume_at("5"), TypeError, "step: '5' is not a whole number"),
        (lambda monitor: monitor.resume_at(True), TypeError, "step: True is not a whole number"),
        (lambda monitor: monitor.flush("x"), TypeError, "timeout: 'x' is not a number of seconds"),
        (lambda monitor: monitor.flush(-1), ValueError, "timeout: -1 is not a positive number of seconds"),
        (lambda monitor: monitor.attach("x"), TypeError, "model: str is not a torch.nn.Module"),
        (lambda monitor: monitor.attach(nn.ReLU(), scaler="x"), TypeError, "scaler: str has no get_scale"),
        (lambda monitor: monitor.attach(nn.ReLU(), name=3), TypeError, "name: 3 is not a text"),
    ],
)
def test_wrong_arguments(
    tmp_path: Path, misuse: Callable[[Monitor], object], error: type[Exception], message: str
) -> None:
    with Monitor(tmp_path) as monitor, pytest.raises(error, match=message):
        misuse(monitor)


@pytest.mark.parametrize(
    ("name", "collection", "message"),
    [
        ("x", "activation", "collection: 'activation' is unknown; did you mean 'activations'?"),
        ("x", ["custom"], r"collection: ['custom'] is not a text"),
        (None, "custom", "name: None is not a text"),
    ],
)
def test_a_record_under_a_wrong_name(tmp_path: Path, name: Any, collection: Any, message: str) -> None:
    with Monitor(tmp_path, every=1) as monitor:
        with pytest.warns(RuntimeWarning) as told:
            monitor.record(name, np.ones(2), collection=collection)
        monitor.record("good", np.ones(2))
        monitor.step()
    assert message in str(told[0].message)
    run = open_run(tmp_path)
    assert message in run.events("problem")[0].data["error"]
    assert run.series("good").steps.tolist() == [0]


def test_a_closed_monitor_does_nothing(tmp_path: Path) -> None:
    model = nn.Linear(2, 2)
    monitor = Monitor(tmp_path, every=1, recorder=3, strict=True)
    monitor.close()
    with pytest.warns(RuntimeWarning, match="attach: the monitor is closed"):
        monitor.attach(model)
    monitor.record("x", "no tensor")
    monitor.step(loss="no number")
    monitor.resume_at(5)
    monitor.dump()
    monitor.close()
    assert (monitor.current_step, monitor.dropped, len(model._forward_hooks)) == (0, 0, 0)


def test_warnings_that_are_errors_do_not_reach_the_loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[str] = []
    monkeypatch.setattr(warnings, "showwarning", lambda message, *_: shown.append(str(message)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with Monitor(tmp_path, every=1) as monitor:
            monitor.record("x", "no tensor")
            monitor.step(loss=1.0)
    assert len(shown) == 1
    assert "could not be captured" in shown[0]
    assert open_run(tmp_path).series("loss").steps.tolist() == [0]


def test_a_warning_names_the_line_of_the_loop(tmp_path: Path) -> None:
    with Monitor(tmp_path, every=1) as monitor, pytest.warns(RuntimeWarning) as told:
        monitor.step(loss="no number")
    assert told[0].filename == __file__


@pytest.fixture
def process_group() -> Iterator[Callable[[], None]]:
    """A function that makes this process the second of three for torch.distributed, until the test ends."""
    yield lambda: distributed.init_process_group("fake", store=FakeStore(), rank=1, world_size=3)
    if distributed.is_initialized():
        distributed.destroy_process_group()


def placed(path: Path) -> tuple[list[int], int]:
    run = open_run(path)
    return run.ranks, run.about["world_size"]


def test_ranks_of_the_process_group(
    tmp_path: Path, process_group: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANK", "0")
    process_group()
    for name, given in (("found", {}), ("given", {"rank": 4, "world_size": 5})):
        with Monitor(tmp_path / name, every=1, strict=True, **given) as monitor:
            monitor.attach(torch.nn.Linear(1, 1))
            monitor.step(loss=1.0)
    assert placed(tmp_path / "found") == ([1], 3)
    assert placed(tmp_path / "given") == ([4], 5)


def test_a_process_group_that_comes_later(tmp_path: Path, process_group: Callable[[], None]) -> None:
    with Monitor(tmp_path, every=1) as monitor:
        process_group()
        with pytest.warns(RuntimeWarning, match="torch.distributed says 1 of 3, this monitor writes as 0 of 1"):
            monitor.attach(nn.Linear(1, 1))
        monitor.attach(nn.Linear(1, 1), name="other")
        monitor.step()
    assert len(open_run(tmp_path).events("problem")) == 1


def test_what_cannot_be_recorded_is_named(tmp_path: Path) -> None:
    def misuse() -> None:
        monitor = Monitor(tmp_path, every=1)
        monitor.record("one", [1, 2])
        monitor.record("two", [3])
        monitor.step(huge=10**400)
        monitor.close()

    with pytest.warns(RuntimeWarning, match=r"TypeError: one: .* is not a tensor"):
        misuse()
    told = " ".join(event.data["error"] for event in open_run(tmp_path).events("problem"))
    assert all(name in told for name in ("one: ", "two: ", "huge: "))


def test_a_file_where_the_run_should_be_is_not_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("x")

    def use() -> None:
        monitor = Monitor(path, every=1)
        monitor.step(loss=1.0)
        monitor.close()

    begin = time.monotonic()
    with pytest.warns(RuntimeWarning, match="could not be stored"):
        use()
    assert time.monotonic() - begin < 10
