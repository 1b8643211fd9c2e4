"""Classes that a classifier takes for others."""

from collections.abc import Iterator

import numpy as np

from tensometer.rules.base import Condition, Rule
from tensometer.rules.classes import class_events
from tensometer.rules.state import State
from tensometer.rules.step import Array, Step

_CHANCE = 0.05  # a share of so much more is no improvement


class ClassifierConfusion(Rule):
    """One class is taken for another most of the time, though the classifier has learned the others.

    Condition: over three windows of training one after another, each of so many steps that every class was the label
    `labels` times on average: a class's share of right predictions `< diagonal` while the median class's is
    `>= learned`, and one other class has `> confused` of its predictions, in the first window as in the last, where the
    class is not 0.05 better.

    Defaults: Amazon SageMaker Debugger's Confusion has 0.9 and 0.1 for all classes at any time, which no run meets at
    its start and few hard problems ever do. A class that is wrong one time in three (diagonal 0.65), mostly as one
    other (0.3), beside classes that are right nine times in ten (learned 0.9) is what mixed-up labels look like: where
    the problem is hard, the median class suffers too. labels 50: a share is then known to 0.07.

    Needs: `labels` and `predictions` of a classifier of up to 256 classes whose loss module is attached (the events
    `classes`). Costs: some ten microseconds a step.

    Healthy look-alikes: the beginning of training, hard problems, and tokens, where the median class is not right
    either; two classes, where one wins as long as nothing is learned; classes that are learned late, which get better
    from window to window; rare classes, which are not judged with fewer than `labels` / 2 labels in a window.

    Example: `ClassifierConfusion(diagonal=0.7, confused=0.2)`
    """

    needs = ("labels", "predictions")
    wants = ("labels/classes",)
    causes = ("labels of one class that are given to another", "classes that look alike to the model")
    remedies = ("look at samples of both classes and their labels", "merge the classes, or give the model more detail")

    diagonal: float = 0.65
    learned: float = 0.9
    confused: float = 0.3
    labels: int = 50

    def check(self, step: Step, state: State) -> Iterator[Condition]:
        """Add the labels of this step to the window; judge it when it is full."""
        for event in class_events(step):
            classes = event.data["classes"]
            if "errors" in event.data and state.get("classes", classes) == classes:
                self._add(state, event.data["labels"], event.data["errors"], classes)
        window: Array | None = state.get("window")
        if window is None or window.trace() + state["wrong"] < self.labels * len(window):
            return
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
        shares, old = _shares(window, self.labels / 2), _shares(first, self.labels / 2)
        right, was = shares.diagonal(), old.diagonal()
        worst = int(np.where((right >= 0) & (was >= 0), right, 2.0).argmin())
        others = shares[worst] - 2.0 * (np.arange(len(right)) == worst)
        other = int(others.argmax())
        holds = (
            min(_median(right), _median(was)) >= self.learned
            and right[worst] < min(self.diagonal, was[worst] + _CHANCE)
            and was[worst] < self.diagonal
            and min(others[other], old[worst, other]) > self.confused
        )
        sentence = "class {worst} is right {value:.0%} of the time and taken for class {other} {share:.0%} of it"
        facts = {"value": float(right[worst]), "worst": worst, "other": other, "share": float(others[other])}
        return self.about(bool(holds), sentence, step=step, threshold=self.diagonal, **facts)


def _median(right: Array) -> float:
    """The share of right predictions of the median class, of at least three that were labels often enough."""
    known = np.sort(right[right >= 0])
    return float(known[len(known) // 2]) if len(known) > 2 else 0.0


def _shares(window: Array, least: float) -> Array:
    """Of each class, what it is taken for; -1 where it was not the label often enough."""
    counts = window @ np.ones(len(window))
    return np.where(counts[:, None] >= least, window / np.maximum(counts, 1.0)[:, None], -1.0)
