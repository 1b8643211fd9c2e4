"""How often each class is the label, and what is predicted instead."""

from pathlib import Path
from typing import Any

import pytest
import torch
from tensometer import Monitor
from torch import nn
from training import closed, counted, network, x_and_y

CROSS = nn.CrossEntropyLoss()


def one_hot(*classes: int, of: int) -> torch.Tensor:
    return torch.eye(of)[list(classes)]


def test_labels_and_errors_are_counted() -> None:
    data = counted(CROSS, one_hot(0, 0, 2, 2, 1, of=3), torch.tensor([0, 1, 1, 2, 1]))
    assert data == {
        "classes": 3,
        "labels": [[0, 1], [1, 3], [2, 1]],
        "errors": [[1, 0, 1], [1, 2, 1]],
        "weighted": False,
    }


def test_labels_of_places_and_labels_in_a_column() -> None:
    predictions = one_hot(0, 1, 1, 1, 0, 0, of=2).reshape(2, 3, 2).transpose(1, 2)
    data = counted(CROSS, predictions, torch.tensor([[0, 1, 0], [1, 0, 0]]))
    assert data is not None
    assert (data["labels"], data["errors"]) == ([[0, 4], [1, 2]], [[0, 1, 1]])
    data = counted(CROSS, one_hot(0, 1, of=2), torch.tensor([[0], [0]]))
    assert data is not None
    assert data["errors"] == [[0, 1, 1]]


@pytest.mark.parametrize(("loss", "border"), [(nn.BCEWithLogitsLoss(), 0.0), (nn.BCELoss(), 0.5)])
def test_binary(loss: nn.Module, border: float) -> None:
    predictions = torch.tensor([[-0.1], [0.1], [0.2]]) + border
    data = counted(loss, predictions, torch.tensor([[1.0], [1.0], [0.0]]))
    assert data == {"classes": 2, "labels": [[0, 1], [1, 2]], "errors": [[0, 1, 1], [1, 0, 1]], "weighted": False}


def test_padding_is_left_out_and_weights_are_told() -> None:
    loss = nn.CrossEntropyLoss(ignore_index=2, weight=torch.ones(3))
    data = counted(loss, one_hot(0, 0, 0, of=3), torch.tensor([0, -100, 2]))
    assert data == {"classes": 3, "labels": [[0, 1]], "errors": [], "weighted": True}


def test_of_many_classes_only_labels() -> None:
    data = counted(CROSS, torch.randn(4, 1000), torch.tensor([7, 7, 8, 900]))
    assert data == {"classes": 1000, "labels": [[7, 2], [8, 1], [900, 1]], "weighted": False}


@pytest.mark.parametrize(
    ("loss", "predictions", "labels"),
    [
        (nn.MSELoss(), torch.randn(4, 2), torch.randn(4, 2)),
        (CROSS, torch.randn(4, 2), torch.rand(4, 2)),  # shares of classes
        (CROSS, torch.randn(4, 5000), torch.zeros(4, dtype=torch.long)),
        (CROSS, torch.randn(1, 21, 200, 200), torch.zeros(1, 200, 200, dtype=torch.long)),
        (nn.BCEWithLogitsLoss(), torch.randn(4, 3), torch.zeros(4, 3)),  # several labels a sample
        (nn.BCEWithLogitsLoss(), torch.randn(4), torch.full((4,), 0.9)),  # soft ones
        (CROSS, torch.randn(0, 2), torch.zeros(0, dtype=torch.long)),
        (CROSS, [torch.randn(4, 2)], "labels"),
        (nn.TripletMarginLoss(), torch.randn(4, 2), torch.randn(4, 2)),
    ],
)
def test_what_is_no_classification_has_no_classes(loss: nn.Module, predictions: Any, labels: Any) -> None:
    assert counted(loss, predictions, labels) is None


def test_a_step_has_an_event_if_it_captures_labels(tmp_path: Path) -> None:
    model, (x, y) = network(), x_and_y()
    monitor = Monitor(tmp_path / "run", every=2, strict=True, collections={"labels": {"class_counts": True}})
    monitor.attach(model, loss=CROSS)
    for _ in range(3):
        CROSS(model(x), y).backward()
        monitor.step()
    run = closed(monitor, tmp_path / "run")
    events = run.events("classes")
    assert [event.step for event in events] == [0, 2]
    assert events[0].data["phase"] == "train"
    assert sum(n for _, n in events[0].data["labels"]) == len(y)
    (key,) = run.tensors("labels")
    assert key.facts["module_type"] == "CrossEntropyLoss"
