"""ClassImbalance."""

import numpy as np
import pytest
import torch
from rule_steps import Bench, normal
from tensometer.rules.class_imbalance import ClassImbalance
from tensometer.store import Event
from torch import nn
from training import counted

CLASSES = 4


def judged(bench: Bench, labels: "np.ndarray[tuple[int], np.dtype[np.int64]]", **given: object) -> list[object]:
    """The findings of a step with these labels."""
    loss = nn.CrossEntropyLoss(weight=given.pop("weight", None))  # type: ignore[arg-type]
    classes = int(given.pop("classes", CLASSES))  # type: ignore[call-overload]
    data = counted(loss, torch.zeros(len(labels), classes), torch.from_numpy(labels))
    assert data is not None
    event = Event(0, 0.0, "classes", {"phase": "train", **data})
    inputs = given.pop("inputs", normal(len(labels), 8))
    rows = {"inputs": {"input.0": inputs}, "labels": {"label": labels}, "losses": given.pop("losses", {})}
    return list(bench.step(events=[event], **rows))


def drawn(count: int, *shares: float, seed: int = 0) -> "np.ndarray[tuple[int], np.dtype[np.int64]]":
    return np.random.default_rng(seed).choice(len(shares), count, p=shares)


def test_a_rare_class_is_found_once_enough_labels_were_seen() -> None:
    bench = Bench(ClassImbalance())
    found = [judged(bench, drawn(64, 0.49, 0.49, 0.02, seed=step)) for step in range(60)]
    assert not any(found[:3])
    (finding,) = [one for step in found for one in step]
    assert "class 2" in finding.sentence  # type: ignore[attr-defined]


def test_labels_of_a_single_class() -> None:
    def steps(others: int, last: float = 0.0) -> list[int]:
        bench, found = Bench(ClassImbalance()), []
        for step in range(60):
            labels = np.full(32, 3)
            labels[:others] = 1
            loss = max(last, 1.0 - 0.1 * step)
            found += [one.step for one in judged(bench, labels, losses={"loss": loss})]  # type: ignore[attr-defined]
        return found

    assert steps(others=0) == [34]
    assert steps(others=4) == []
    assert steps(others=0, last=0.1) == []  # pairs of which the first is always the right one


@pytest.mark.parametrize("classes", [2, 4, 100])
def test_balanced_classes_and_mild_differences_are_none(classes: int) -> None:
    bench = Bench(ClassImbalance())
    shares = np.linspace(1, 4, classes)
    for step in range(60):
        labels = drawn(32, *(shares / shares.sum()), seed=step)
        assert judged(bench, labels, classes=classes) == []


def test_a_loss_that_makes_up_for_it_is_none() -> None:
    bench = Bench(ClassImbalance())
    for step in range(60):
        labels = drawn(64, 0.49, 0.49, 0.02, seed=step)
        assert judged(bench, labels, weight=torch.ones(CLASSES)) == []


def test_tasks_one_after_another_are_none() -> None:
    bench = Bench(ClassImbalance())
    for step in range(300):
        task = step // 100 % 2
        assert judged(bench, 2 * task + drawn(32, 0.5, 0.5, seed=step)) == []


@pytest.mark.parametrize("length", [1, 8])
def test_tokens_are_not_judged(length: int) -> None:
    bench = Bench(ClassImbalance())
    zipf = 1 / np.arange(1, 28) ** 1.5
    for step in range(60):
        tokens = drawn(32 * length, *(zipf / zipf.sum()), seed=step)
        context = drawn(32 * 8, *(zipf / zipf.sum()), seed=1000 + step).reshape(32, 8)
        assert judged(bench, tokens, classes=27, inputs=context) == []


def test_labels_of_places_are_not_judged() -> None:
    bench = Bench(ClassImbalance())
    for step in range(60):
        assert judged(bench, drawn(640, 0.98, 0.02, seed=step), inputs=normal(10, 3, 8, 8)) == []


def test_the_next_of_one_hot_tokens_is_no_class() -> None:
    bench = Bench(ClassImbalance())
    for step in range(60):
        tokens = np.random.default_rng(step).integers(CLASSES, size=(64, 3))
        inputs = np.eye(CLASSES, dtype=np.float32)[tokens].reshape(64, -1)
        assert judged(bench, drawn(64, 0.49, 0.49, 0.02, seed=step), inputs=inputs) == []


def test_sorted_data_are_found_when_the_class_changes() -> None:
    bench = Bench(ClassImbalance())
    found = [judged(bench, np.full(32, step // 6)) for step in range(24)]
    assert [step for step, findings in enumerate(found) if findings] == [7]
    assert "not shuffled" in found[7][0].sentence  # type: ignore[attr-defined]


def test_small_batches_of_one_class_and_tasks_of_two_are_not_sorted() -> None:
    small, tasks = Bench(ClassImbalance()), Bench(ClassImbalance())
    for step in range(40):
        assert judged(small, np.full(8, step % 4)) == []
        assert judged(tasks, 2 * (step // 20) + drawn(32, 0.5, 0.5, seed=step)) == []
