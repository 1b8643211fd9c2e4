"""A monitor on a model whose tensors lie on a device: what the same loop tells on the CPU, and nothing waits."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensometer
import torch
from fake_cuda import Driver
from tensometer import Monitor
from tensometer.capture import torch_clearing
from tensometer.store import Record
from torch import nn
from torch_stand_in import Device, LatePendings, host, nothing_waits, to_device
from training_on_device import on_host, rows_of, told, train


def test_every_row_is_as_on_the_cpu(device: Driver, records: list[Record], tmp_path: Path) -> None:
    expected_model = train(tmp_path / "cpu", on_host)
    expected = rows_of(records)
    model = train(tmp_path / "cuda", to_device)
    found = rows_of(records)
    assert list(found) == list(expected)
    assert found == expected
    for (name, one), (_, other) in zip(model.named_parameters(), expected_model.named_parameters(), strict=True):
        assert torch.equal(host(one), other), name
    assert told(tmp_path / "cuda", "problem", "nonfinite") == []
    assert Device.synchronised == 0


@pytest.mark.parametrize("release", [1, 3])
def test_results_that_come_late_reach_their_step(
    device: Driver, late: LatePendings, records: list[Record], tmp_path: Path, release: int
) -> None:
    """One submit is ready after each step, or three: steps come in order, behind by what they are late."""
    train(tmp_path / "cpu", on_host, steps=6, clipping=True)
    expected = rows_of(records)
    behind = []

    def after_step(step: int, monitor: Monitor, _: nn.Module) -> None:
        behind.append(step - max((one.step for one in records), default=-1))
        late.release(release)
        if step == 5:
            late.release()
            assert monitor.flush()

    train(tmp_path / "cuda", to_device, steps=6, clipping=True, after_step=after_step)
    assert behind == sorted(behind)
    assert behind[-1] > 2 or release > 1
    assert rows_of(records) == expected
    assert Device.synchronised == 0


def test_units_are_as_on_the_cpu(device: Driver, records: list[Record], tmp_path: Path) -> None:
    units = {"units": True, "unit_counts": True}
    settings = {"collections": dict.fromkeys(("weights", "gradients", "activations"), units), "steps": 2}
    train(tmp_path / "cpu", on_host, **settings)
    expected = rows_of(records)
    assert any(mark[3].endswith("/identical_units") for mark in expected)
    train(tmp_path / "cuda", to_device, **settings)
    assert rows_of(records) == expected


def test_what_is_found_is_as_on_the_cpu(device: Driver, tmp_path: Path) -> None:
    """Of an input with a NaN: the event that says where it came from, and what rules make of it."""
    kinds = ("nonfinite", "finding", "gradients_missing", "mode")
    for watched in ({}, {"collections": ["weights", "biases", "gradients", "losses", "loop"]}):
        train(tmp_path / f"cpu{len(watched)}", on_host, steps=8, spoil=3, rules=True, widen=False, **watched)
        train(tmp_path / f"cuda{len(watched)}", to_device, steps=8, spoil=3, rules=True, widen=False, **watched)
        expected = told(tmp_path / f"cpu{len(watched)}", *kinds)
        assert {kind for _, kind, _ in expected} >= {"nonfinite", "finding"}
        assert told(tmp_path / f"cuda{len(watched)}", *kinds) == expected
        assert told(tmp_path / f"cuda{len(watched)}", "problem") == []
    assert Device.synchronised == 0


def test_updates_are_compared_on_the_device(device: Driver, records: list[Record], tmp_path: Path) -> None:
    settings = {"collections": {"updates": {"units": True}, "weights": True}, "steps": 4}
    train(tmp_path / "cpu", on_host, **settings)
    expected = rows_of(records)
    assert {mark[3].rpartition("/")[2] for mark in expected} >= {"units", "ratio", "changed_fraction", "cosine"}
    train(tmp_path / "cuda", to_device, **settings)
    assert rows_of(records) == expected
    assert Device.synchronised == 0


def test_whole_tensors_are_those_of_the_cpu(device: Driver, tmp_path: Path) -> None:
    settings = {"collections": {"weights": {"save": "raw"}, "updates": {"save": "raw"}}, "steps": 3}
    train(tmp_path / "cpu", on_host, **settings)
    train(tmp_path / "cuda", to_device, **settings)
    here, there = (tensometer.open_run(tmp_path / name) for name in ("cpu", "cuda"))
    for name in ("first.weight", "last.weight"):
        for step in range(3):
            for collection in ("weights", "updates"):
                expected = here.tensor(name, step, collection=collection)
                found = there.tensor(name, step, collection=collection)
                assert found.dtype == expected.dtype
                assert np.array_equal(found, expected)
    assert told(tmp_path / "cuda", "problem") == []
    assert Device.synchronised == 0


def test_whole_tensors_of_any_layout(device: Driver, tmp_path: Path) -> None:
    x = torch.randn(4, 6, dtype=torch.complex64)
    views = {"conjugate": x.conj(), "steps": x[:, ::2], "transposed": x.T, "negated": x.conj().imag}
    with Monitor(tmp_path, every=1, collections={"metrics": {"save": "raw"}}) as monitor:
        for name, view in views.items():
            monitor.record(name, to_device(view), collection="metrics")
        monitor.step()
    run = tensometer.open_run(tmp_path)
    for name, view in views.items():
        assert np.array_equal(run.tensor(name, 0), view.resolve_conj().resolve_neg().numpy())
    assert Device.synchronised == 0


@pytest.mark.parametrize("loss_module", [nn.CrossEntropyLoss(ignore_index=1), nn.BCEWithLogitsLoss()])
def test_classes_are_counted_as_on_the_cpu(device: Driver, tmp_path: Path, loss_module: nn.Module) -> None:
    def run(path: Path, place: Callable[[Any], Any]) -> list[Any]:
        torch.manual_seed(0)
        binary = isinstance(loss_module, nn.BCEWithLogitsLoss)
        model = place(nn.Linear(4, 1 if binary else 3))
        with Monitor(path, every=1, collections={"labels": {"class_counts": True}}) as monitor:
            monitor.attach(model, loss=loss_module)
            for step in range(4):
                labels = torch.randint(0, 2, (9, 1)).float() if binary else torch.randint(0, 3, (9,))
                if binary and step == 2:
                    labels[0] = 0.5  # then they are no classes
                with nothing_waits():
                    loss_module(model(place(torch.randn(9, 4))), place(labels)).backward()
                    monitor.step()
        assert told(path, "problem") == []
        return told(path, "classes")

    expected = run(tmp_path / "cpu", on_host)
    assert [step for step, _, _ in expected] == (
        [0, 1, 2, 3] if isinstance(loss_module, nn.CrossEntropyLoss) else [0, 1, 3]
    )
    assert any(data["errors"] for _, _, data in expected)
    assert run(tmp_path / "cuda", to_device) == expected
    assert Device.synchronised == 0


class Tokens(nn.Module):
    """A loop's other sides: tokens with padding, gradients that are not cleared, a loss module."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(5, 4, padding_idx=0)
        self.last = nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.last(self.embedding(x).mean(1))
        y += 1
        return y


def _train_tokens(path: Path, place: Callable[[Any], Any]) -> None:
    torch.manual_seed(0)
    model, loss_module = place(Tokens()), nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    labels = place(torch.arange(6) % 3)
    collections = ["inputs", "predictions", "labels", "activations", "gradients", "loop"]
    with Monitor(path, every=1, collections=collections, clipping=True) as monitor:
        monitor.attach(model, optimizer=optimizer, loss=loss_module)
        for _ in range(3):
            with nothing_waits():
                loss_module(model(place(torch.randint(0, 5, (6, 7)))), labels).backward()
                optimizer.step()
                monitor.step()


def test_tokens_clipping_and_what_is_not_cleared(
    device: Driver, records: list[Record], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Otherwise gradients of a class of their own are left alone.
    monkeypatch.setattr(torch_clearing, "_is_watchable", lambda parameter: parameter.grad is not None)
    _train_tokens(tmp_path / "cpu", on_host)
    expected = rows_of(records)
    with pytest.warns(RuntimeWarning, match="last: changed in place; from the next step on a copy is kept"):
        _train_tokens(tmp_path / "cuda", to_device)
    found = rows_of(records)
    assert {mark[3] for mark in expected} >= {"input.0/padding", "uncleared_updates/0", "gradient_norm_before_clipping"}
    # What the model itself changes behind its module's back is missed once.
    assert expected.keys() - found.keys() == {(0, "train", "activations", "last", 0)}
    assert found == {mark: row for mark, row in expected.items() if mark in found}
    assert Device.synchronised == 0


def test_what_is_found_late_bears_its_step(device: Driver, late: LatePendings, tmp_path: Path) -> None:
    known: list[int] = []

    def after_step(step: int, monitor: Monitor, _: nn.Module) -> None:
        assert monitor.current_step == step + 1
        late.release(2)
        known.append(len(found))
        if step == 5:
            late.release()

    found: list[tensometer.Finding] = []
    settings = {"steps": 6, "spoil": 1, "rules": ["NonFinite"], "widen": False}
    train(tmp_path / "cpu", on_host, on_finding=found.append, **settings)
    expected = [(one.step, str(one)) for one in found]
    found.clear()
    train(tmp_path / "cuda", to_device, on_finding=found.append, after_step=after_step, **settings)
    assert expected
    assert [(one.step, str(one)) for one in found] == expected
    assert known[1] == 0  # nothing of the step that is spoilt was there when it ended
    assert told(tmp_path / "cuda", "nonfinite")[0] == told(tmp_path / "cpu", "nonfinite")[0]
    assert Device.synchronised == 0


def test_a_step_makes_few_submits(device: Driver, tmp_path: Path) -> None:
    submits: list[int] = []
    train(tmp_path, to_device, steps=5, after_step=lambda *_: submits.append(device.count("cuEventRecord")))
    # The forward pass, the gradients, and the end of the step.
    assert [after - before for before, after in pairwise(submits)] == [3] * 4
