"""NaN and infinities, and where they came from."""

from collections.abc import Iterator

from tensometer.rules.base import Condition, Rule
from tensometer.rules.finding import Severity
from tensometer.rules.group import Array, Group, Key
from tensometer.rules.losses import held_out
from tensometer.rules.origin import origin
from tensometer.rules.state import State
from tensometer.rules.step import Step

# Where gradients are those of nobody's update: so many steps must have them, as a gradient scaler that was not attached
# has some by design.
_UNKNOWN_PATIENCE = 5


class NonFinite(Rule):
    """A weight, the loss, a gradient or an output of a module has a NaN, or infinities where nobody means them.

    Condition: `nan + posinf + neginf > 0` of a weight, a gradient that an optimizer uses, or a training loss; `nan > 0`
    of a module's output. Of all that is so at a step the earliest in this order is told: loss, weights, gradients,
    outputs; and afterwards only what is worse.

    Defaults: none. Fatal once the loss is NaN or a weight is not finite, since all that follows is; and a gradient that
    an optimizer uses, or is about to use, where nothing is known of the weights; otherwise that is an error, as an
    infinite loss is; information for an output whose NaN reaches no loss and no gradient.

    Needs: nothing of its own: it looks at what there is of losses, weights, gradients and activations. The origin is
    that of the events `nonfinite` (docs/capture.md): the module is named at once where activations are captured at
    every step. Costs: sums of three counts a tensor.

    Healthy look-alikes: steps that a gradient scaler skips, and gradients that no optimizer used; masks of -inf in
    outputs; frozen tensors of infinities; losses of validation that are NaN where there was none; a batch whose NaN
    loss the loop does not learn from is only a warning.

    Example: `NonFinite(exclude="^adapter")`
    """

    wants = ("losses", "weights", "biases", "gradients", "activations", "loop")
    causes = ("a logarithm, root or quotient of 0", "a learning rate or loss scale too large", "NaN in the data")
    remedies = ("add a small number inside the logarithm, root or quotient", "clip gradients, or lower the rate")

    severity: Severity = Severity.FATAL

    def check(self, step: Step, state: State) -> Iterator[Condition]:
        """Tell the first of what is not finite, and later only what is worse."""
        told = origin(step.events)
        if told and not state.get("origin"):
            state["origin"] = told
        found = [one for one in self._broken(step, state.get("origin", "")) if one.holds.any()]
        if not found:
            state["kind"], state["origin"] = "", ""
            return
        found.sort(key=lambda one: -_severity(one))
        told, worst = state.get("kind"), found[0]
        if told and _severity(worst) <= state["severity"]:
            # What was told goes on; the rest follows of it.
            yield from (one for one in found if one.kind == told)
            return
        state["kind"], state["severity"] = worst.kind, _severity(worst)
        yield worst

    def _broken(self, step: Step, came: str) -> Iterator[Condition]:
        updated = step.progress.updated and not step.progress.skipped
        losses = self.rows(step, "losses", where=_is_trained)
        nan = bool(losses["nan"].any())
        if nan or not step.progress.skipped:
            severity = Severity.FATAL if nan and updated else Severity.ERROR if updated else Severity.WARNING
            kind = "losses" if updated else "losses not learned from"
            yield _condition(kind, losses, losses["nonfinite"], "{tensor} is not finite", severity, came)
        counted = "{tensor} is not finite: {value:.0f} of {count:.0f} elements"
        for kind in ("weights", "biases"):
            rows = self.rows(step, kind)
            count = rows["nan"] + (rows["nonfinite"] - rows["nan"]) * rows.facts("requires_grad", True)
            yield _condition(kind, rows, count, counted, Severity.FATAL, came)
        # An update that was left out for what was found of them is none, and they are found nevertheless.
        left_out = any(event.kind == "update_skipped" for event in step.events)
        if updated or left_out:
            rows = self.rows(step, "gradients")
            patience = None if step.progress.counted or left_out else _UNKNOWN_PATIENCE
            sentence = f"the gradient of {counted}"
            # Before an update there is nothing else to judge by, and the weights will be as the gradient is.
            fatal = step.progress.counted and not left_out and not len(step.group("weights"))
            severity = Severity.FATAL if fatal else Severity.ERROR
            yield _condition("gradients", rows, rows["nonfinite"], sentence, severity, came, patience)
        rows = self.rows(step, "activations")
        yield _condition("activations", rows, rows["nan"], f"the output of {counted}", Severity.INFO, came)


def _condition(
    kind: str, rows: Group, bad: Array, sentence: str, severity: Severity, came: str, patience: int | None = None
) -> Condition:
    holds = bad > 0
    count = rows["count"] if holds.any() else 0.0
    more: dict[str, Array | float | str] = {"count": count, "came": f"; {came}" if came else ""}
    return Condition(rows, holds, sentence + "{came}", bad, 0.0, more, kind, severity, patience)


def _severity(condition: Condition) -> int:
    return int(condition.severity or 0)


def _is_trained(key: Key) -> bool:
    return not held_out(key.name)
