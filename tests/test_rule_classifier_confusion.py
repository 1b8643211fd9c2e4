"""ClassifierConfusion."""

import numpy as np
import torch
from rule_steps import Bench, normal
from tensometer.rules.classifier_confusion import ClassifierConfusion
from tensometer.store import Event
from torch import nn
from training import counted

CLASSES = 5


def judged(bench: Bench, right: "list[float]", step: int, taken_for: int | None = 4) -> list[object]:
    """The findings of a step in which classes are right so often, and else taken for one other, or for any."""
    random = np.random.default_rng(step)
    labels = random.integers(0, CLASSES, 64)
    others = random.integers(0, CLASSES, 64) if taken_for is None else np.full(64, taken_for)
    predicted = np.where(random.random(64) < np.array(right)[labels], labels, others)
    predictions = torch.eye(CLASSES)[torch.from_numpy(predicted)]
    data = counted(nn.CrossEntropyLoss(), predictions, torch.from_numpy(labels))
    event = Event(0, 0.0, "classes", {"phase": "train", **(data or {})})
    rows = {"predictions": {"prediction": normal(64, CLASSES)}, "labels": {"label": labels}}
    return list(bench.step(events=[event], **rows))


def test_a_class_that_is_taken_for_another_is_found() -> None:
    bench = Bench(ClassifierConfusion())
    found = [one for step in range(60) for one in judged(bench, [0.99, 0.3, 0.99, 0.98, 0.99], step)]
    assert len(found) == 1
    assert found[0].sentence.startswith("of the labels of classes 1 and 4, ")  # type: ignore[attr-defined]
    assert found[0].step == 44  # type: ignore[attr-defined]  # three windows of 15 steps


def test_the_start_of_training_is_none() -> None:
    bench = Bench(ClassifierConfusion())
    for step in range(100):
        late = min(1.0, step / 60)
        assert judged(bench, [min(1.0, step / 20)] * 4 + [late], step, taken_for=0) == []


def test_hard_problems_are_none() -> None:
    bench = Bench(ClassifierConfusion())
    for step in range(100):
        assert judged(bench, [0.7, 0.3, 0.6, 0.5, 0.8], step) == []
        assert judged(bench, [0.95, 0.4, 0.95, 0.95, 0.95], step, taken_for=None) == []
