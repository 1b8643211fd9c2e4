"""Parameters whose treatment is not what they are declared to be."""

from collections.abc import Iterator, Sequence

import numpy as np

from tensometer.rules.base import Condition, Rule
from tensometer.rules.finding import Severity
from tensometer.rules.group import Group, Key
from tensometer.rules.state import State
from tensometer.rules.step import Step
from tensometer.rules.tensors import is_trained, joined
from tensometer.rules.unchanged import unchanged


class ParameterNotOptimized(Rule):
    """A parameter is left out of training, or taken into it, against what the model declares.

    Condition, of a parameter: (`left_out`) it requires a gradient and gets a new one at each step, no optimizer has it
    though there is one, and it does not change, for `patience` steps; (`no_gradient`) it is to be trained and had no
    gradient since the beginning, though its module was called, for `missing_patience` steps; (`unused`) the same of a
    module that was not called, for `unused_patience` steps, a warning; (`frozen`) it requires none and has none, and
    changes, for `patience` steps; (`apart`) it was tied to another under one of its names, and is a tensor of its own
    now.

    Defaults: patience 2, as what is declared leaves no doubt; missing_patience 8 and unused_patience 25: experts, heads
    and layers that are left out by chance are called sooner or later. Where modules are not seen, 8 it is.

    Needs: `weights`. Looks at `gradients`, `activations`. Costs: three comparisons a weight.

    Healthy look-alikes: frozen weights (they do not change); copies that follow another network's weights, as teachers
    and targets do (no optimizer has them, or they are frozen and there is a trained one of the same name and shape);
    copies of masters that an optimizer has (they change); a GAN's turns (frozen for the other's turn, but with a
    gradient); a backbone under no_grad() that no optimizer has, though nobody has frozen it (no gradient, or always
    that of its last training); embeddings of unused rows.

    Example: `ParameterNotOptimized(missing_patience=50)`
    """

    needs = ("weights",)
    wants = ("gradients", "biases", "activations")
    causes = (
        "an optimizer that was built before a layer was replaced, or given a part of the model",
        "detach() or no_grad() between a layer and the loss",
        "code that writes into frozen weights",
    )
    remedies = ("build the optimizer last, of model.parameters()", "freeze on purpose: requires_grad_(False)")

    severity: Severity = Severity.ERROR
    patience: int = 2
    missing_patience: int = 8
    unused_patience: int = 25

    def check(self, step: Step, state: State) -> Iterator[Condition]:
        """Compare what parameters do with their facts."""
        weights = self.rows(step, "weights")
        gradients = step.group("gradients")
        still = unchanged(step, state, weights)
        norms = joined(weights, gradients, gradients["l2"], missing=0.0)
        fresh = joined(weights, gradients, ~unchanged(step, state, gradients), missing=False)
        left_out = (weights.each(_is_left_out) > 0) & fresh
        sentence = "{tensor} has a gradient of {value:.1e}, but no optimizer has it, and it does not change"
        yield Condition(weights, left_out & still & (norms > 0), sentence, norms, 0.0, kind="left_out")
        yield from self._without_gradient(step, state, weights, gradients)
        changes = (weights.each(_is_frozen) > 0) & ~still & (norms == 0)
        if not state.get("compared", False):
            changes[:] = False
        if changes.any():
            for at in np.flatnonzero(changes).tolist():
                changes[at] = not _follows(weights.keys[at], weights.keys)
        state["compared"] = True
        sentence = "{tensor} is frozen, and changes nevertheless"
        yield Condition(weights, changes, sentence, weights["l2"], 0.0, kind="frozen")
        yield self._apart(state, weights)

    def _without_gradient(self, step: Step, state: State, weights: Group, gradients: Group) -> Iterator[Condition]:
        for event in step.events:
            if event.kind == "gradients_missing":
                state["missing"] = list(event.data["parameters"])
        had = state.of_tensors("had", len(step.catalogue), False)
        had[gradients.ids] = True
        missing = set(state.get("missing", ()))
        without, called = np.zeros(len(weights), bool), np.ones(len(weights), bool)
        if missing and len(gradients):
            without = np.array([name in missing for name in weights.names]) & ~had[weights.ids]
            without &= weights.each(_is_owned if weights.each(_is_owned).any() else is_trained) > 0
            modules = _with_parents(step.group("activations").names)
            if modules:
                called = np.array([name.rpartition(".")[0] in modules for name in weights.names])
        observed = float(step.progress.observed)
        sentence, limit = "{tensor} is trainable, and never had a gradient in {value:.0f} steps", self.missing_patience
        yield Condition(weights, without & called, sentence, observed, limit, kind="no_gradient", patience=limit)
        sentence, limit = (
            "{tensor} is trainable, and its module was not called in {value:.0f} steps",
            self.unused_patience,
        )
        about = {"kind": "unused", "severity": Severity.WARNING, "patience": limit}
        yield Condition(weights, without & ~called, sentence, observed, limit, **about)  # type: ignore[arg-type]

    def _apart(self, state: State, weights: Group) -> Condition:
        """Names under which tensors were known that had several, and that are tensors by themselves now."""
        layout = weights.names
        if state.get("names") != layout:
            tied = dict(state.get("tied", {}))
            for key in weights.keys:
                tied.update(dict.fromkeys(key.facts.get("tied_names", ()), key.name))
            state["names"], state["tied"] = layout, tied
        tied = state["tied"]
        holds = np.array([name in tied for name in layout], bool) if tied else np.zeros(len(layout), bool)
        more = {"other": [tied.get(name, "") for name in layout]} if holds.any() else {"other": ""}
        sentence = "{tensor} was one tensor with {other}, and is not any more"
        return Condition(weights, holds, sentence, 0.0, 0.0, more, kind="apart", patience=1)


def _with_parents(modules: Sequence[str]) -> set[str]:
    """Modules, those that they are parts of, and the model itself; also of outputs that are numbered: `lstm.0`."""
    found = {""} if modules else set()
    for name in modules:
        parts = name.split(".")
        found.update(".".join(parts[:count]) for count in range(1, len(parts) + 1))
    return found


def _is_owned(key: Key) -> bool:
    return is_trained(key) and "optimizer" in key.facts


def _is_left_out(key: Key) -> bool:
    return bool(key.facts.get("requires_grad")) and "optimizer" in key.facts and key.facts["optimizer"] is None


def _is_frozen(key: Key) -> bool:
    return key.facts.get("requires_grad") is False


def _follows(key: Key, others: Sequence[Key]) -> bool:
    """Whether a trained parameter has the same name but for its beginning, and the same shape."""
    end = "." + key.name.partition(".")[2]
    return end.count(".") > 1 and any(
        one is not key and one.shape == key.shape and one.name.endswith(end) and one.facts.get("requires_grad")
        for one in others
    )
