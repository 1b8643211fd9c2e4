"""Settings of a collection that let nothing in are told."""

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from tensometer import Monitor, open_run
from torch import nn


def train(path: Path, steps: int, strict: bool = False, **collections: Any) -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
    model.register_buffer("mask", torch.ones(4))  # which the defaults leave out
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with Monitor(path, every=1, strict=strict, collections=collections) as monitor:
        monitor.attach(model, optimizer=optimizer)
        for _ in range(steps):
            optimizer.zero_grad()
            loss = model(torch.randn(3, 4)).square().mean()
            loss.backward()
            optimizer.step()
            monitor.step(loss=loss)


@pytest.mark.parametrize("steps", [1, 10])
@pytest.mark.parametrize(
    ("collection", "settings", "words"),
    [
        ("weights", {"include": "encodr"}, "include = 'encodr'"),
        ("activations", {"module_types": ["Relu"]}, r"module_types = \('Relu',\)"),
        ("gradients", {"include": "3"}, "include = '3'"),
        ("activations", {"include": "3", "every": 4}, "include = '3'"),
    ],
)
def test_a_slip_is_told_once(tmp_path: Path, collection: str, settings: dict[str, Any], words: str, steps: int) -> None:
    with pytest.warns(RuntimeWarning, match=rf"collections\.{collection}: {words}: lets in none") as warned:
        train(tmp_path, steps, **{collection: settings})
    assert len(warned) == 1
    (problem,) = open_run(tmp_path).events("problem")
    assert collection in problem.data["error"]


def test_strict_raises(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="weights: include = 'encodr'"):
        train(tmp_path, 10, strict=True, weights={"include": "encodr"})


def test_what_matches_something_is_not_told(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        train(tmp_path, 10, weights={"include": "0"}, activations={"module_types": ["ReLU"]}, biases={"largest": 2})
