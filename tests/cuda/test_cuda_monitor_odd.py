"""A monitor on models that lie here and there, and tensors that cannot be taken like the others."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fake_cuda import DLPackArray, Driver
from tensometer import Monitor, actions
from tensometer.capture.batches import Batches, Options
from tensometer.store import Record
from torch import nn
from torch_stand_in import Device, host, nothing_waits, to_device
from training_on_device import on_host, rows_of, told


def problems(path: Path) -> list[str]:
    return [data["error"] for _, _, data in told(path, "problem")]


class Halves(nn.Module):
    """The first on the host, the second where it is put."""

    def __init__(self, place: Callable[[Any], Any]) -> None:
        super().__init__()
        self.here, self.there = nn.Linear(4, 4), place(nn.Linear(4, 2))


def _train_halves(path: Path, place: Callable[[Any], Any]) -> None:
    torch.manual_seed(0)
    model = Halves(place)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    with Monitor(path, every=1, collections=["weights", "gradients", "updates", "loop"]) as monitor:
        monitor.attach(model, optimizer=optimizer)
        for x in torch.randn(4, 3, 4):
            with nothing_waits():
                optimizer.zero_grad()
                model.here(x).square().mean().backward()
                model.there(place(x)).square().mean().backward()
                optimizer.step()
                monitor.step()


def test_parameters_of_an_optimizer_here_and_there(device: Driver, records: list[Record], tmp_path: Path) -> None:
    _train_halves(tmp_path / "cpu", on_host)
    expected = rows_of(records)
    assert {mark[3] for mark in expected if mark[2] == "updates"} >= {"here.weight/cosine", "there.weight/cosine"}
    _train_halves(tmp_path / "cuda", to_device)
    assert rows_of(records) == expected
    assert problems(tmp_path / "cuda") == []


def test_sparse_gradients_are_told(device: Driver, records: list[Record], tmp_path: Path) -> None:
    """To coalesce one would wait for the device; what it does not concern is there."""

    class Sparse:
        is_cuda, is_sparse, layout, _version = True, True, torch.sparse_coo, 0

        def is_coalesced(self) -> bool:
            return False

    failed: list[str] = []
    batches = Batches(lambda error: failed.append(str(error)))
    batch = batches.batch(Options())
    numbers = [batches.add(batch, one, name) for one, name in ((to_device(torch.ones(3)), "a"), (Sparse(), "b"))]
    batches.submit(1, full=False)
    assert failed == ["b: is sparse, and to add up what it has twice would wait for the device"]
    device.finish()
    assert batch.settled(pytest.fail)
    assert batch.places(numbers) == [0, None]


def test_updates_without_memory_are_told_and_the_next_step_tries_again(
    device: Driver, monkeypatch: pytest.MonkeyPatch, records: list[Record], tmp_path: Path
) -> None:
    zeros_like, asked = torch.zeros_like, list[int]()

    def first_fails(*arguments: Any, **settings: Any) -> torch.Tensor:
        asked.append(1)
        if len(asked) == 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return zeros_like(*arguments, **settings)

    monkeypatch.setattr(torch, "zeros_like", first_fails)
    with pytest.warns(RuntimeWarning, match="CUDA out of memory"):
        _train_halves(tmp_path, to_device)
    updates = {(mark[0], mark[3]) for mark in rows_of(records) if mark[2] == "updates"}
    assert {(step, f"{half}.weight") for step in (1, 2, 3) for half in ("here", "there")} <= updates
    # What lies on the host has memory of its own.
    assert (0, "here.weight") in updates
    assert (0, "there.weight") not in updates
    assert problems(tmp_path) == ["OutOfMemoryError: CUDA out of memory"]


def test_sparse_gradients_on_the_host_are_read(device: Driver) -> None:
    """Beside others on a device."""
    failed: list[str] = []
    batches = Batches(lambda error: failed.append(str(error)))
    batch = batches.batch(Options())
    sparse = torch.sparse_coo_tensor([[1, 1, 2]], [1.0, 2.0, 4.0], (5,), check_invariants=True)
    numbers = [batches.add(batch, one, name) for one, name in ((to_device(torch.ones(3)), "a"), (sparse, "b"))]
    batches.submit(1, full=False)
    device.finish()
    assert batch.settled(pytest.fail)
    assert failed == []
    assert batch.table is not None
    assert [batch.table[at].max for at in batch.places(numbers) if at is not None] == [1.0, 4.0]


def test_a_tensor_that_lies_elsewhere_is_left_out_alone(
    device: Driver, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = rng.standard_normal(100).astype(np.float32)
    monkeypatch.setenv("TENSOMETER_FAKE", "devices=2 owner=1")
    device.reset()
    elsewhere = DLPackArray(device, x, device=0)
    monkeypatch.setenv("TENSOMETER_FAKE", "devices=2")
    device.reset()
    good = [DLPackArray(device, x, device=0) for _ in range(2)]
    failed: list[str] = []
    batches = Batches(lambda error: failed.append(str(error)))
    batch = batches.batch(Options())
    numbers = [batches.add(batch, one, name) for one, name in zip((good[0], elsewhere, good[1]), "abc", strict=True)]
    batches.submit(1, full=False)
    assert failed == ["b: is in the memory of CUDA device 1, not of device 0"]
    device.finish()
    assert batch.settled(pytest.fail)
    assert batch.table is not None
    assert batch.places(numbers) == [0, None, 1]
    assert [one.count for one in batch.table] == [100, 100]


def test_a_tensor_that_is_held_twice_is_copied_for_both(device: Driver) -> None:
    batches = Batches(pytest.fail)
    batch, x = batches.batch(Options()), to_device(torch.ones(3))
    numbers = [batches.add(batch, x, name) for name in ("output", "input")]
    batches.copy(x)
    x += 1
    batches.submit(1, full=False)
    device.finish()
    assert batch.settled(pytest.fail)
    assert batch.table is not None
    assert [batch.table[at].max for at in batch.places(numbers) if at is not None] == [1.0, 1.0]


def test_a_bad_update_is_kept_back_though_all_slots_were_taken(
    device: Driver, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """By many passes, each of which is submitted on its own, on a device that lags behind."""
    monkeypatch.setenv("TENSOMETER_FAKE", "adopt=1 late=0")
    device.reset()
    torch.manual_seed(0)
    model = to_device(nn.Linear(4, 2))
    before = [host(one.detach()).clone() for one in model.parameters()]

    def run() -> None:
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        settings = {
            "every": 1,
            "collections": ["activations", "gradients"],
            "micro_batches": True,
            "close_seconds": 0.5,
        }
        with Monitor(tmp_path, **settings, rules=["NonFinite"], on_finding=actions.skip_update()) as monitor:
            monitor.attach(model, optimizer=optimizer)
            inputs = torch.randn(40, 3, 4)
            inputs[-1, 0, 0] = float("nan")
            with monkeypatch.context() as patched:
                patched.setattr(Device, "catch_up", classmethod(lambda _: None))
                for x in inputs:
                    model(to_device(x)).square().mean().backward()
                optimizer.step()
            monitor.step()

    with pytest.warns(RuntimeWarning, match="the device is too far behind"):
        run()
    assert [step for step, _, _ in told(tmp_path, "update_skipped")] == [0]
    assert all(map(torch.equal, [host(one.detach()) for one in model.parameters()], before))


class Gathered(nn.Module):
    """As a sharded module has it: its weights are put together for a forward pass, and their memory is given back."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        weight = self.inner.weight
        together = nn.Parameter(to_device(host(weight).detach()))
        self.inner._parameters["weight"] = together
        y: torch.Tensor = self.inner(x)
        Device.catch_up()
        together.inner.untyped_storage().resize_(0)  # type: ignore[attr-defined]
        self.inner._parameters["weight"] = weight
        return y


def test_weights_whose_memory_is_given_back_hide_no_origin(device: Driver, tmp_path: Path) -> None:
    model = to_device(nn.Sequential(Gathered(), nn.Linear(4, 2)))
    model[0].inner.bias.inner[1] = float("nan")
    with Monitor(tmp_path, every=1, collections=["activations"]) as monitor, torch.no_grad():
        monitor.attach(model)
        for x in torch.randn(3, 3, 4):
            model(to_device(x))
            monitor.step()
    assert problems(tmp_path) == []
    where, *_ = [data for _, _, data in told(tmp_path, "nonfinite")]
    assert (where["module"], where["parameters_not_finite"]) == ("0.inner", ["bias"])


class Residual(nn.Module):
    """Changes in place what a module has put out."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.a(x)
        y += 100
        z: torch.Tensor = self.b(y)
        return z


def test_changes_that_pytorch_does_not_count_are_not_taken_for_none(
    device: Driver, records: list[Record], tmp_path: Path
) -> None:
    """Those in inference mode: a copy is held from the start."""
    found = []
    for place in (on_host, to_device):
        torch.manual_seed(0)
        model, batches = place(Residual()), [place(x) for x in torch.randn(3, 3, 4)]
        settings = {"every": 1, "strict": True, "collections": ["activations"]}
        with Monitor(tmp_path / place.__name__, **settings) as monitor, torch.inference_mode():
            monitor.attach(model)
            for x in batches:
                model(x)
                monitor.step()
        found.append({mark: row for mark, row in rows_of(records).items() if mark[3] == "a"})
    assert len(found[0]) == 3
    assert found[1] == found[0]
