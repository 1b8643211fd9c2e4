"""Threads and signals that come in the midst of what a monitor does with tensors on a device."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from fake_cuda import Driver
from tensometer import Monitor
from tensometer.capture.batches import Batch
from tensometer.store import Record
from torch import nn
from torch_stand_in import to_device
from training_on_device import rows_of, told


def test_threads_take_turns(device: Driver, records: list[Record], tmp_path: Path) -> None:
    """As hooks do in a backward pass over several devices: autograd calls those of each in a thread of its own."""
    tensors = [to_device(torch.full((3,), float(k))) for k in range(600)]
    with Monitor(tmp_path, every=1, collections=["custom"]) as monitor, often_interrupted():

        def record(first: int) -> None:
            for k in range(first, len(tensors), 4):
                monitor.record(f"t{k}", tensors[k])

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(record, range(4)))
        monitor.step()
    assert {mark[3]: row.max for mark, (_, row) in rows_of(records).items()} == {f"t{k}": k for k in range(600)}


@contextmanager
def often_interrupted() -> Iterator[None]:
    """Threads give way to each other wherever they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


def test_a_signal_in_the_midst_of_holding_tensors_confuses_no_rows(
    device: Driver, monkeypatch: pytest.MonkeyPatch, records: list[Record], tmp_path: Path
) -> None:
    """Its handler may ask for what is there: then nothing is submitted yet."""
    answers: list[bool] = []
    add, asked = Batch.add, list[int]()

    def interrupted(batch: Batch, tensor: Any, name: str = "") -> int:
        asked.append(1)
        if len(asked) == 3:
            signal.raise_signal(signal.SIGUSR1)
        return add(batch, tensor, name)

    monkeypatch.setattr(Batch, "add", interrupted)
    model = to_device(nn.ParameterList([nn.Parameter(torch.full((4,), float(i))) for i in range(6)]))
    with Monitor(tmp_path, every=1, collections=["weights"]) as monitor:
        monitor.attach(model)
        before = signal.signal(signal.SIGUSR1, lambda *_: answers.append(monitor.flush(5)))
        try:
            monitor.step()
        finally:
            signal.signal(signal.SIGUSR1, before)
        assert monitor.flush(5)
    assert answers == [False]
    assert {mark[3]: row.max for mark, (_, row) in rows_of(records).items()} == {str(i): i for i in range(6)}
    assert told(tmp_path, "problem") == []


def test_an_action_may_wait_for_a_thread_that_uses_the_monitor(device: Driver, tmp_path: Path) -> None:
    done: list[str] = []

    def found(_: object) -> None:
        one = threading.Thread(target=lambda: (monitor.dump("why"), done.append("dumped")), daemon=True)
        one.start()
        one.join(20)

    model = to_device(nn.Linear(4, 2))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with Monitor(tmp_path, every=1, recorder=5, rules=["NonFinite"], on_finding=found) as monitor:
        monitor.attach(model, optimizer=optimizer)
        model(to_device(torch.full((3, 4), float("nan")))).square().mean().backward()
        optimizer.step()
        monitor.step()
        assert monitor.flush(20)
        assert done
