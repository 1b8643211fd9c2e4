"""A model that does no better than one that knows only how frequent the classes are."""

import math
from collections.abc import Iterator

import numpy as np

from tensometer.rules.base import Condition, Rule
from tensometer.rules.classes import LabelCounts, class_events, one_label_a_sample
from tensometer.rules.group import Key
from tensometer.rules.losses import median, remember, spread, training_loss, trains_fully
from tensometer.rules.state import State
from tensometer.rules.step import Step
from tensometer.rules.tensors import is_trained_matrix, replaced

_RECENT = 20
_LOGARITHMIC = ("CrossEntropyLoss", "NLLLoss", "BCEWithLogitsLoss", "BCELoss")


class Underfitting(Rule):
    """After many steps the training loss is that of the best constant prediction: nothing was learned from the inputs.

    Condition: after `steps` steps at the full learning rate, `samples` labels, `visits` indices a row of the longest
    table of embeddings and updates that add up to `moved` times some weight matrix, the median of the last 20 losses
    lies between `share` and 1.2 times the loss of the best constant prediction, above `share` by twice its error, and
    is not lower than that of the 20 before. For classes that loss is the entropy `-sum p ln p` of the labels seen (ln C
    for C balanced classes), for a mean squared error it is their variance.

    Defaults: share 0.95, 60 steps and 2000 labels: healthy runs of nearly all our kinds are below half of the
    constant's loss by then, and noisy data that are learned well below 0.94 of it; with one or two samples a step they
    have begun to learn after some hundreds. moved 0.2: at a rate that is 10 or 30 times smaller than usual weights have
    hardly changed by then, and what can be learned shows once they have moved by 0.1; labels that do not belong to
    their inputs move them as much as others. visits 100: a row of a table learns only at its indices. Up to 1.2, as a
    loss far above it is another one: a sum over samples, or with terms of its own.

    Needs: `losses`, of which one is plainly what is trained, and `labels`, so the loss module must be attached. Costs:
    two medians of 20 numbers a step.

    Healthy look-alikes: warm-up and decay (only steps at the full rate count); tiny batches (labels count); a loss that
    still falls, though slowly, and small rates; tokens, where the frequencies alone are the first plateau of every
    language model; a loss weighted by class, whose constant is another; label smoothing only lifts the floor. Data of
    which hardly anything can be predicted look the same, and are for a person to know.

    Example: `Underfitting(steps=1000)`
    """

    fractions = ("share",)
    needs = ("losses", "labels")
    wants = ("inputs", "labels/classes", "weights", "updates")
    causes = ("a model that is too small or cut off from its inputs", "labels that do not belong to the inputs")
    remedies = ("overfit a single batch first", "compare a few inputs with their labels", "try a larger model or rate")

    patience: int = 3
    share: float = 0.95
    steps: int = 60
    samples: int = 2000
    visits: int = 100
    moved: float = 0.2

    def check(self, step: Step, state: State) -> Iterator[Condition]:
        """Compare the last losses with that of the best constant prediction for the labels so far."""
        found = training_loss(step)
        constant = self._constant(step, state)
        if found is None:
            return
        name, loss = found
        state["trained"] = state.get("trained", 0) + trains_fully(step, state)
        recent = remember(state, "recent", loss, 2 * _RECENT)
        labels = step.group("labels")
        state["samples"] = state.get("samples", 0) + (math.prod(labels.keys[0].shape[:1]) if len(labels) else 0)
        visited, moved = self._visited(step, state), self._moved(step, state)
        enough = visited and moved and state["trained"] >= self.steps and state["samples"] >= self.samples
        if constant is None or constant <= 0 or not enough or len(recent) < 2 * _RECENT:
            return
        late, early = recent[_RECENT:], recent[:_RECENT]
        level, error = median(late), 2 * spread(late) / _RECENT**0.5
        holds = self.share * constant < level - error and level < 1.2 * constant and level >= median(early)
        sentence = "{tensor} is {value:.4g}, as if the inputs were not looked at: that would give {constant:.4g}"
        more = {"tensor": name, "collection": "losses", "constant": constant}
        yield self.about(holds, sentence, value=level, threshold=self.share * constant, step=step, **more)

    def _visited(self, step: Step, state: State) -> bool:
        inputs = step.group("inputs").where(_is_index)
        state["indices"] = state.get("indices", 0) + int(inputs.sizes.sum())
        rows = [*step.group("weights").each(_rows_of_embeddings).tolist(), state.get("rows", 0)]
        state["rows"] = max(rows)
        return not state["indices"] or bool(state["indices"] >= self.visits * state["rows"])

    def _moved(self, step: Step, state: State) -> bool:
        """Whether updates so far add up to so much of some weight matrix; true if they are not captured."""
        updates = step.group("updates").where(is_trained_matrix)
        if len(updates):
            # As if the steps since the last that was captured had been alike.
            steps = step.number - state.get("at", step.number - 1)
            part = float(max(replaced(updates, step.group("weights"))))
            state["at"], state["moved"] = step.number, state.get("moved", 0.0) + steps * part
        return "moved" not in state or bool(state["moved"] >= self.moved)

    def _constant(self, step: Step, state: State) -> float | None:
        labels = step.group("labels")
        kinds = labels.facts("module_type", "") if len(labels) else ("",)
        if kinds[0] == "MSELoss":
            return self._variance(step, state)
        events = class_events(step)
        if kinds[0] not in _LOGARITHMIC or any(event.data["weighted"] for event in events):
            return None
        classes = max((event.data["classes"] for event in events), default=0)
        if not events or not one_label_a_sample(step, classes):
            return None
        counted = LabelCounts(state, classes)
        for event in events:
            counted.add(event)
        shares = counted.counts[counted.counts > 0] / max(counted.seen, 1.0)
        return float(-shares @ np.log(shares))

    def _variance(self, step: Step, state: State) -> float:
        labels = step.group("labels")
        count, total, square = state.get("moments", [0.0, 0.0, 0.0])
        count += float(labels["count"][0])
        total += float(labels["sum"][0])
        square += float(labels["l2"][0]) ** 2
        state["moments"] = [count, total, square]
        return max(square / count - (total / count) ** 2, 0.0) if math.isfinite(square) else 0.0


def _is_index(key: Key) -> bool:
    return key.dtype.startswith(("int", "uint"))


def _rows_of_embeddings(key: Key) -> float:
    """How many rows a table of embeddings has; 0 for other weights."""
    return key.shape[0] if "Embedding" in str(key.facts.get("module_type")) else 0
