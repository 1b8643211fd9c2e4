"""A monitor on a device that is behind, fails, or is busy otherwise: training goes on as if it were not there."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensometer
import torch
from fake_cuda import Driver, image_settings
from tensometer import Monitor, actions
from tensometer.capture.batches import Batches, Options
from tensometer.store import Record
from torch import nn
from torch_stand_in import Device, LatePendings, host, nothing_waits, to_device
from training_on_device import Net, on_host, rows_of, told, train


def problems(path: Path) -> list[str]:
    return [data["error"] for _, _, data in told(path, "problem")]


def test_what_finds_no_slot_is_dropped_and_told(
    device: Driver, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, rng: np.random.Generator
) -> None:
    """A step that submits more often than there are slots, as one of very many passes through a model does."""
    monkeypatch.setenv("TENSOMETER_FAKE", "adopt=1 late=0")
    device.reset()
    x = rng.standard_normal(100).astype(np.float32)
    arrays = [_typed(device.array(x)) for _ in range(40)]
    failed: list[str] = []
    batches = Batches(lambda error: failed.append(str(error)))
    submitted = []
    for array in arrays:
        submitted.append(batches.batch(Options()))
        batches.add(submitted[-1], array, "x")
        batches.submit(1, full=False)
    assert batches.dropped == 40 - 32
    assert set(failed) == {"summaries of CUDA tensors were dropped: the device is too far behind"}
    device.finish()
    assert all(one.settled(pytest.fail) for one in submitted)
    assert [one.table is not None for one in submitted] == [True] * 32 + [False] * 8
    assert device.count("cuEventSynchronize") == 0


def _typed(array: Any) -> Any:
    array.shape, array.dtype = array.array.shape, array.array.dtype
    return array


def test_arrays_of_other_libraries(
    device: Driver, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, rng: np.random.Generator
) -> None:
    """Results that come when training is over."""
    monkeypatch.setenv("TENSOMETER_FAKE", "adopt=1 late=0")
    device.reset()
    arrays = [_typed(device.array(rng.standard_normal(100).astype(np.float32))) for _ in range(5)]
    monitor = Monitor(tmp_path, every=1, collections=["custom"])
    for array in arrays:
        monitor.record("x", array)
        monitor.step()
    assert not monitor.flush(0.1)
    monitor.record("x", arrays[0])
    monitor.step()
    device.finish()
    monitor.close()
    run = tensometer.open_run(tmp_path)
    expected = [tensometer.summarize(array.array).mean for array in [*arrays, arrays[0]]]
    assert run.series("x").steps.tolist() == list(range(6))
    assert run.series("x")["mean"].tolist() == expected


def test_more_steps_than_may_wait_are_dropped(
    device: Driver, late: LatePendings, records: list[Record], tmp_path: Path
) -> None:
    dropped = []

    def after_step(step: int, monitor: Monitor, _: nn.Module) -> None:
        dropped.append(monitor.dropped)
        if step == 11:
            late.release()

    with pytest.warns(RuntimeWarning, match="dropped"):
        train(tmp_path, to_device, steps=12, after_step=after_step, collections=["weights", "loop"])
    assert dropped[:8] == [0] * 8
    assert dropped[-1] > dropped[8] > 0
    assert {one.step for one in records if any(key.collection == "weights" for key in one.keys)} == set(range(8))
    assert {one.step for one in records if any(key.collection == "loop" for key in one.keys)} == set(range(12))


def test_an_action_before_the_update_waits_and_leaves_it_out(device: Driver, tmp_path: Path) -> None:
    weights: dict[str, list[torch.Tensor]] = {}
    for name, place in (("cpu", on_host), ("cuda", to_device)):
        torch.manual_seed(0)
        model = place(nn.Linear(4, 2))
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        inputs = torch.randn(4, 3, 4)
        inputs[2, 0, 0] = float("nan")
        with Monitor(tmp_path / name, every=2, rules=["NonFinite"], on_finding=actions.skip_update()) as monitor:
            monitor.attach(model, optimizer=optimizer)
            for x in inputs:
                optimizer.zero_grad()
                model(place(x)).square().mean().backward()
                optimizer.step()
                monitor.step()
        weights[name] = [host(one.detach()) for one in model.parameters()]
    assert all(map(torch.equal, weights["cuda"], weights["cpu"]))
    assert bool(torch.isfinite(weights["cuda"][0]).all())
    kinds = ("update_skipped", "finding")
    assert told(tmp_path / "cuda", *kinds) == told(tmp_path / "cpu", *kinds) != []
    assert Device.driver.count("cuEventSynchronize") + Device.driver.count("cuEventQuery") > 0


def test_a_capture_into_a_graph_is_refused(
    device: Driver, monkeypatch: pytest.MonkeyPatch, records: list[Record], tmp_path: Path
) -> None:
    """What is called in it has no values; what comes behind it is captured."""

    def after_step(step: int, *_: Any) -> None:
        monkeypatch.setenv("TENSOMETER_FAKE", "adopt=1 capturing=7" if step == 0 else "adopt=1")
        device.reset()

    with pytest.warns(RuntimeWarning) as warned:
        train(tmp_path / "cuda", to_device, steps=4, after_step=after_step)
    assert len(warned) == 1
    assert "being captured into a graph" in problems(tmp_path / "cuda")[0]
    assert len(problems(tmp_path / "cuda")) == 1
    found = rows_of(records)
    train(tmp_path / "cpu", on_host, steps=4)
    expected = rows_of(records)
    lost = {mark for mark in expected if mark not in found}
    assert {mark[0] for mark in lost} == {1}
    assert {mark: row for mark, row in expected.items() if mark not in lost} == found


def test_what_is_under_way_is_stored_at_the_end(
    device: Driver, late: LatePendings, records: list[Record], tmp_path: Path
) -> None:
    def after_step(step: int, *_: Any) -> None:
        if step == 3:
            assert records == []
            late.release()

    train(tmp_path / "cuda", to_device, after_step=after_step)
    assert {one.step for one in records} == set(range(4))


def test_what_never_comes_is_waited_for_so_long(
    device: Driver, late: LatePendings, records: list[Record], tmp_path: Path
) -> None:
    train(tmp_path / "cuda", to_device, close_seconds=0.2, collections=["weights", "loop"])
    assert {key.collection for one in records for key in one.keys} == {"loop"}
    assert {one.step for one in records} == set(range(4))


def test_an_exception_in_the_loop_keeps_what_was_captured(
    device: Driver, records: list[Record], tmp_path: Path
) -> None:
    rows = []
    for name, place in (("cpu", on_host), ("cuda", to_device)):
        with pytest.raises(ZeroDivisionError):
            _train_and_break_off(tmp_path / name, place)
        rows.append(rows_of(records))
        assert told(tmp_path / name, "interrupted") == [(2, "interrupted", {"reason": "ZeroDivisionError: "})]
    assert {mark[0] for mark in rows[0]} == {0, 1, 2}
    assert rows[1] == rows[0]


def _train_and_break_off(path: Path, place: Callable[[Any], Any]) -> None:
    torch.manual_seed(0)
    model = place(Net())
    with Monitor(path, every=1, recorder=2) as monitor:
        monitor.attach(model, optimizer=torch.optim.SGD(model.parameters(), lr=0.1))
        for _ in range(2):
            model(place(torch.randn(2, 1, 8, 8)))
            monitor.step(loss=1.0)
        with nothing_waits():
            model(place(torch.randn(2, 1, 8, 8)))
        raise ZeroDivisionError


FAULTS = """
import os, sys, warnings
from pathlib import Path
import pytest, torch
import tensometer.capture.torch_capture, torch._dynamo  # here, not in every child
from fake_cuda import Driver
from tensometer import Monitor, open_run
from torch_stand_in import host, install, nothing_waits, to_device
from training_on_device import Net, told
driver = Driver(Path(os.environ["TENSOMETER_LIBCUDA"]))
install(driver, pytest.MonkeyPatch())
folder, error, stride = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
large = sys.argv[4] == "large"
collections = ["weights", "gradients", "updates", "losses", "loop"]
if large:
    collections += ["activations", "inputs", "buffers", "optimizer_state"]

def train(path):
    torch.manual_seed(0)
    model = to_device(Net() if large else torch.nn.Linear(3, 2))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    with Monitor(path, every=1, collections=collections) as monitor:
        monitor.attach(model, optimizer=optimizer)
        for x in torch.randn(2, 2, 1, 8, 8) if large else torch.randn(2, 4, 3):
            with nothing_waits():
                optimizer.zero_grad()
                loss = model(to_device(x)).square().mean()
                loss.backward()
                optimizer.step()
                monitor.step(loss=loss)
    return [host(one.detach()) for one in model.parameters()]

def train_with(settings, at):
    os.environ["TENSOMETER_FAKE"] = f"adopt=1 {settings}"
    driver.reset()
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        weights = train(folder / str(at))
    failed = [data["error"] for _, _, data in told(folder / str(at), "problem")]
    assert len(warned) == len(failed) <= 1, [str(one.message) for one in warned]
    run = open_run(folder / str(at))
    there = [key.name for key in run.tensors("weights")]
    return weights, len(failed), len(run.series(there[0], collection="weights").steps) if there else 0

pid = os.fork()
if pid == 0:
    weights, failed, steps = train_with("", "none")
    assert (failed, steps) == (0, 2)
    torch.save((weights, driver.count("calls")), folder / "expected")
    os._exit(0)
assert os.waitpid(pid, 0)[1] == 0
expected, calls = torch.load(folder / "expected")
for at in range(1, calls + 1, stride):
    if os.fork() == 0:
        weights, failed, steps = train_with(f"fail_at={at} error={error}", at)
        assert all(map(torch.equal, weights, expected))
        print(failed, steps, flush=True)
        os._exit(0)
    assert os.wait()[1] == 0, at
print(calls)
"""


def run_with_faults(library: Path, folder: Path, *arguments: str) -> tuple[list[tuple[int, int]], int]:
    """How many problems each training had, and how many of its two steps have weights; and how many calls there are."""
    environment = {"PYTHONPATH": str(Path(__file__).parent), "PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", FAULTS, str(folder), *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
        env={**environment, **image_settings(), "TENSOMETER_LIBCUDA": str(library)},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    *lines, calls = done.stdout.splitlines()
    rows = [line.split() for line in lines]
    return [(int(failed), int(steps)) for failed, steps in rows], int(calls)


def test_every_driver_call_may_fail(fake_library: Path, tmp_path: Path) -> None:
    """Whichever does: training ends with the same weights, one warning, and a problem in the run."""
    found, calls = run_with_faults(fake_library, tmp_path, "700", "1", "small")
    assert len(found) == calls > 50
    assert [failed for failed, _ in found[:50]] == [1] * 50


def test_memory_may_be_short_at_every_driver_call(fake_library: Path, tmp_path: Path) -> None:
    """Where there is none for a step's summaries, the next step tries again."""
    found, calls = run_with_faults(fake_library, tmp_path, "2", "3", "large")
    assert len(found) == -(-calls // 3) > 50
    assert (1, 1) in found
    assert found.count((1, 2)) >= 3
