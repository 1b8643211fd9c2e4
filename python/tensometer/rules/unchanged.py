"""Weights that stay what they are though they are trained."""

from collections.abc import Iterator

import numpy as np

from tensometer.rules.base import Condition, Rule
from tensometer.rules.group import Array, Group
from tensometer.rules.losses import training_loss
from tensometer.rules.modules import solved
from tensometer.rules.state import State
from tensometer.rules.step import Step
from tensometer.rules.tensors import is_trained, is_trained_matrix, joined

_COMPARED = ("l1", "l2", "sum")
# Below such a share of the largest gradient that a weight had there is nothing left to learn.
_LEFT = 1e-3


class Unchanged(Rule):
    """A trained weight has a gradient and does not change when the optimizer steps; or the optimizer never steps.

    Condition: sum, l1 and l2 of a weight matrix are bit for bit those of the captured step before, while an optimizer
    has it, has stepped, and its gradient is above 1e-3 of the largest it had, for `patience` steps; or (`nothing`) all
    of them stay, none has a gradient that is not zero, and an optimizer steps by a rate above 0, for `patience` steps;
    or no optimizer has stepped since the beginning, for `idle_patience` steps; or (`stopped`) since it did, for
    `stopped_patience` steps of training, and four times as many as it ever took it before.

    Defaults: patience 4; a float32 weight changes in every healthy step that has a gradient and a learning rate. Amazon
    SageMaker Debugger's UnchangedTensor has 3 steps, of all tensors. idle_patience 32: gradients are accumulated over
    fewer steps than that.

    Needs: `weights`. Costs: three comparisons a matrix.

    Healthy look-alikes: frozen weights, and what no optimizer has (ParameterNotOptimized); warm-up from 0, decay to 0,
    skipped and accumulating steps (not judged); LoRA, residual gates, experts without tokens, embeddings of rare tokens
    (their gradient is 0, or they are not judged); a problem that is solved, in which a search like LBFGS finds no step
    any more (hardly any gradient is left; and if none is, the loss is down to 2 % of its first value).

    Example: `Unchanged(patience=10)`
    """

    needs = ("weights",)
    wants = ("gradients", "loop", "losses", "inputs")
    causes = (
        "a learning rate of 0",
        "loss.backward() is missing, or the loss was detached",
        "updates below what the dtype resolves",
        "something that puts weights back",
    )
    remedies = ("look at the schedule and at the parameter groups", "see UpdatesRoundedAway", "call optimizer.step()")

    patience: int = 4
    idle_patience: int = 32
    stopped_patience: int = 64

    def check(self, step: Step, state: State) -> Iterator[Condition]:
        """Compare the sums of each weight with the last ones."""
        weights = self.rows(step, "weights", where=is_trained_matrix)
        still = unchanged(step, state, weights)
        progress = step.progress
        if progress.updated and not progress.skipped:
            state["stepped"] = True
            gradients = step.group("gradients").where(is_trained)
            norms = joined(weights, gradients, gradients["l2"], missing=0.0)
            largest = state.of_tensors("largest", len(step.catalogue), 0.0)
            largest[weights.ids] = np.maximum(largest[weights.ids], norms)
            wanted = (norms > _LEFT * largest[weights.ids]) & (norms > 0)
            wanted &= not progress.rising and (progress.full_rate or progress.peak_rate == 0)
            sentence = "{tensor} does not change, though an optimizer has it and its gradient is {value:.1e}"
            yield Condition(weights, still & wanted, sentence, norms, 0.0, kind="still")
            nothing = progress.counted and progress.rate > 0 and not solved(progress)
            nothing = nothing and bool(still.all()) and not norms.any()
            sentence = "{tensor} does not change: the optimizer steps, and no weight has a gradient that is not zero"
            yield Condition(weights, np.full(len(weights), nothing), sentence, norms, 0.0, kind="nothing")
        yield self._stopped(step, state, bool(len(still)) and bool(still.all()))
        yield self.about(
            not state.get("stepped", False) and not progress.skipped and bool(still.any()),
            "no optimizer has stepped in {value} captured steps",
            value=progress.observed,
            threshold=self.idle_patience,
            step=step,
            kind="idle",
            collection="weights",
            patience=self.idle_patience,
        )

    def _stopped(self, step: Step, state: State, still: bool) -> Condition:
        """Counts steps of training alone: not those of an evaluation in between."""
        progress = step.progress
        count, longest = state.get("idle", 0), state.get("longest", 0)
        if not progress.counted or progress.updated or progress.skipped:
            count, longest = 0, max(count, longest)
        elif training_loss(step) is not None and len(step.group("inputs")):
            count += 1
        grown = count > state.get("idle", 0)
        state["idle"], state["longest"] = count, longest
        limit = max(self.stopped_patience, 4 * longest)
        holds = grown and still and state.get("stepped", False) and count >= limit
        sentence = "no optimizer has stepped for {value} captured steps, though the model is called in training mode"
        about = {"value": count, "threshold": limit, "kind": "stopped", "collection": "weights", "patience": 1}
        return self.about(holds, sentence, step=step, **about)


def unchanged(step: Step, state: State, rows: Group) -> Array:
    """Of each row's tensor, whether its sums are those that the state remembers; it remembers the present ones."""
    still = np.ones(len(rows), bool)
    for name in _COMPARED:
        last = state.of_tensors(f"last {name} of {rows.part.group}", len(step.catalogue), np.nan)
        values, span = rows[name], rows.part.span
        still &= last[span] == values
        last[span] = values
    return still
