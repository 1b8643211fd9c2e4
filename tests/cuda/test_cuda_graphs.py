"""Training steps that a CUDA graph replays."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from fake_cuda import Driver
from tensometer import Monitor, summarize
from tensometer.store import Record
from torch import nn
from torch_stand_in import Graph, host, nothing_waits, to_device
from training_on_device import rows_of, told

EVERYTHING = ["weights", "gradients", "activations", "updates", "inputs", "losses", "loop", "optimizer_state"]


REPLAYS = 3


class Step:
    """A model whose whole training step works on the same memory each time."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.model = to_device(nn.Sequential(nn.Linear(4, 8), nn.ReLU(inplace=True), nn.Linear(8, 2)))
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.1, momentum=0.9)
        self.x = to_device(torch.randn(6, 4))
        self.loss = torch.zeros(())

    def run(self) -> None:
        self.optimizer.zero_grad()
        self.loss = self.model(self.x).square().mean()
        self.loss.backward()
        self.optimizer.step()

    def weights(self) -> list[torch.Tensor]:
        return [host(one.detach()).clone() for one in self.model.parameters()]


def captured(step: Step) -> Graph:
    with Graph() as graph:
        step.run()
    return graph


def trained_alone() -> tuple[list[str], list[list[torch.Tensor]]]:
    """What is in the graph, and the weights behind each replay."""
    step = Step()
    step.run()
    graph = captured(step)
    weights = []
    for _ in range(REPLAYS):
        graph.replay()
        weights.append(step.weights())
    return graph.names, weights


def trained_with_a_monitor(path: Path) -> tuple[list[str], list[torch.Tensor]]:
    step = Step()
    with Monitor(path, every=1, collections=EVERYTHING, clipping=True) as monitor:
        monitor.attach(step.model, optimizer=step.optimizer)
        with nothing_waits():
            step.run()
            monitor.step(loss=step.loss)
            graph = captured(step)
            monitor.step(loss=step.loss)
            for _ in range(REPLAYS):
                graph.replay()
                monitor.step(loss=step.loss)
    return graph.names, step.weights()


def test_nothing_of_a_monitor_becomes_part_of_a_graph(device: Driver, records: list[Record], tmp_path: Path) -> None:
    names, weights = trained_alone()
    with pytest.warns(RuntimeWarning, match="a CUDA graph is being captured"):
        found_names, found_weights = trained_with_a_monitor(tmp_path)
    assert found_names == names
    assert all(map(torch.equal, found_weights, weights[-1]))
    assert [data["error"] for _, _, data in told(tmp_path, "problem")] == [
        "NotCapturedError: a CUDA graph is being captured: nothing is read in it, for its replays would read it too"
    ]
    rows = rows_of(records)
    collections = {step: {mark[2] for mark in rows if mark[0] == step} for step in range(2 + REPLAYS)}
    assert collections[0] >= {"weights", "gradients", "activations", "updates", "losses"}
    for number, (first, *_) in enumerate(weights):
        assert collections[2 + number] >= {"weights", "losses", "optimizer_state"}
        _, row = rows[2 + number, "train", "weights", "0.weight", 0]
        assert row.l2 == summarize(first).l2


def test_a_build_with_cuda_and_no_device(
    monkeypatch: pytest.MonkeyPatch, records: list[Record], tmp_path: Path
) -> None:
    """There PyTorch raises an error if it is asked whether a graph is being captured."""

    def asked() -> bool:
        raise RuntimeError("Found no NVIDIA driver on your system")

    monkeypatch.setattr(torch.backends.cuda, "is_built", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", asked)
    model = nn.Linear(4, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with Monitor(tmp_path, every=1, strict=True, collections=["weights", "gradients"]) as monitor:
        monitor.attach(model, optimizer=optimizer)
        model(torch.ones(3, 4)).sum().backward()
        optimizer.step()
        monitor.step()
    assert {mark[2] for mark in rows_of(records)} == {"weights", "gradients"}
