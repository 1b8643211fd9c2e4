"""Classes that a classifier takes for others."""

from collections.abc import Iterator

import numpy as np

from tensometer.rules.base import Condition, Rule
from tensometer.rules.classes import class_events
from tensometer.rules.group import Array
from tensometer.rules.state import State
from tensometer.rules.step import Step


class ClassifierConfusion(Rule):
    """One class is taken for another most of the time, though the classifier has learned the others.

    Condition: over three windows of training one after another, each of `steps` steps or more, and of so many that
    every class was the label `labels` times on average: of the labels of two classes more than `confused` are taken for
    the other of the two, while the median class is right `learned` of the time; in the first window as in the last, and
    no less in the last.

    Defaults: Amazon SageMaker Debugger's Confusion asks that every class be right nine times in ten and taken for
    another once in ten at most, which no run meets at its start and few hard problems ever do. Where half of one
    class's labels are those of another, a quarter of the labels of both are wrong at best, and half where both are
    mixed up: confused 0.2. Where the problem is hard, the median class suffers too: learned 0.9. labels 50: a share of
    two classes is then known to 0.05. steps 15: what large batches or pixels tell of a few steps is the beginning of
    training.

    Needs: `labels` and `predictions` of a classifier of up to 256 classes whose loss module is attached (the events
    `classes`). Costs: some ten microseconds a step.

    Healthy look-alikes: the beginning of training, hard problems, and tokens, where the median class is not right
    either; two classes, where one wins as long as nothing is learned; classes that are learned late, which get better
    from window to window; rare classes, which are not judged with fewer than `labels` / 2 labels in a window.

    Example: `ClassifierConfusion(confused=0.1)`
    """

    fractions = ("learned", "confused")
    needs = ("labels", "predictions")
    wants = ("labels/classes",)
    causes = ("labels of one class that are given to another", "classes that look alike to the model")
    remedies = ("look at samples of both classes and their labels", "merge the classes, or give the model more detail")

    learned: float = 0.9
    confused: float = 0.2
    labels: int = 50
    steps: int = 15

    def check(self, step: Step, state: State) -> Iterator[Condition]:
        """Add the labels of this step to the window; judge it when it is full."""
        for event in class_events(step):
            classes = event.data["classes"]
            if "errors" in event.data and state.get("classes", classes) == classes:
                self._add(state, event.data["labels"], event.data["errors"], classes)
        window: Array | None = state.get("window")
        state["steps"] = state.get("steps", 0) + 1
        full = window is not None and window.trace() + state["wrong"] >= self.labels * len(window)
        if window is None or not full or state["steps"] < self.steps:
            return
        state["steps"] = 0
        first: Array | None = state.get("first")
        state["first"], state["second"] = state.get("second"), window
        state["window"], state["wrong"] = np.zeros_like(window), 0.0
        if first is not None:
            yield self._judged(step, first, window)

    def _add(self, state: State, labels: list[list[int]], errors: list[list[int]], classes: int) -> None:
        if "window" not in state:
            state["window"], state["wrong"], state["classes"] = np.zeros((classes, classes)), 0.0, classes
        window = state["window"]
        for label, count in labels:
            window[label, label] += count
        for label, predicted, count in errors:
            window[label, label] -= count
            window[label, predicted] += count
            state["wrong"] += count

    def _judged(self, step: Step, first: Array, window: Array) -> Condition:
        share, before = _mixed(window, self.labels / 2), _mixed(first, self.labels / 2)
        one, other = divmod(int(share.argmax()), len(window))
        value = float(share[one, other])
        learned = min(_median(window, self.labels / 2), _median(first, self.labels / 2)) >= self.learned
        holds = learned and value >= before[one, other] > self.confused
        sentence = "of the labels of classes {one} and {other}, {value:.0%} are predicted as the other of the two"
        return self.about(bool(holds), sentence, value=value, threshold=self.confused, step=step, one=one, other=other)


def _counts(window: Array) -> Array:
    """How often each class was the label."""
    return np.asarray(window @ np.ones(len(window)))


def _mixed(window: Array, least: float) -> Array:
    """Of every two classes, the share of their labels that is taken for the other; 0 where there were few of one."""
    counts = _counts(window)
    known = counts >= least
    share: Array = (window + window.T) / np.maximum(counts[:, None] + counts, 1.0) * (known[:, None] & known)
    np.fill_diagonal(share, 0.0)
    return share


def _median(window: Array, least: float) -> float:
    """The share of right predictions of the median class, of at least three that were labels often enough."""
    counts = _counts(window)
    right = np.sort((window.diagonal() / np.maximum(counts, 1.0))[counts >= least])
    return float(right[len(right) // 2]) if len(right) > 2 else 0.0
