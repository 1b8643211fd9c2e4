"""What rules about classifiers share: counts of labels, summed over steps."""

import numpy as np

from tensometer.rules.group import TRAIN, Array, Group
from tensometer.rules.state import State
from tensometer.rules.step import Fact, Step


def class_events(step: Step) -> list[Fact]:
    """What the steps since the last one told of classes in training."""
    return [event for event in step.events if event.kind == "classes" and event.data.get("phase") == TRAIN]


def one_label_a_sample(step: Step, classes: int) -> bool:
    """Whether labels are of whole samples, and not of places in them or of tokens, whose classes differ by nature.

    As many labels as samples (the first dimension of inputs, of sequences also the second), which are not themselves
    whole numbers of about as many kinds, as where the next token is predicted, or such numbers one-hot.
    """
    inputs, labels = step.group("inputs"), step.group("labels")
    if not len(inputs) or not len(labels):
        return False
    count = int(labels.sizes[0])
    if not any(count in key.shape[:2] for key in inputs.keys):
        return False
    whole = [at for at, key in enumerate(inputs.keys) if "int" in key.dtype and len(key.shape) > 1]
    return not any(4 * classes > inputs["max"][at] for at in whole) and not _one_hot(inputs, classes).any()


def _one_hot(inputs: Group, classes: int) -> Array:
    """Of each input, whether it is zeros and ones, and of the latter one in so many numbers as there are classes."""
    ones = inputs["sum"]
    bits = (inputs["max"] == 1) & (inputs["min"] == 0) & np.isclose(inputs["l2"] ** 2, ones, rtol=1e-9)
    result: Array = bits & np.isclose(ones * classes, inputs["count"], rtol=1e-9)  # sums are rounded
    return result


class LabelCounts:
    """How often each class was the label, and at which labels it was first and last seen, in a rule's state."""

    def __init__(self, state: State, classes: int) -> None:
        self.counts: Array = state.of_tensors("counts", classes, 0.0)
        self.first: Array = state.of_tensors("first", classes, -1.0)
        self.last: Array = state.of_tensors("last", classes, -1.0)
        self._state = state

    @property
    def seen(self) -> float:
        """How many labels were seen."""
        return float(self._state.get("seen", 0.0))

    def add(self, event: Fact) -> None:
        """Count the labels of an event."""
        classes, counts = np.array(event.data["labels"] or np.zeros((0, 2)), np.intp).reshape(-1, 2).T
        self.counts[classes] += counts
        first = classes[self.first[classes] < 0]
        self.first[first] = self.seen
        self._state["seen"] = self.seen + float(counts @ np.ones(len(counts)))
        self.last[classes] = self.seen
