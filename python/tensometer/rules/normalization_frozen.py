"""Running statistics that stand still."""

from collections.abc import Iterator

import numpy as np

from tensometer.rules.base import Condition, Rule
from tensometer.rules.group import Array, Group, Key
from tensometer.rules.state import State
from tensometer.rules.step import Step


class NormalizationFrozen(Rule):
    """The running statistics of a normalisation do not move, though the module is trained.

    Condition: `running_mean` is what it was at the captured step before (sums and sums of squares, bit for bit), while
    the optimizer steps, the module's own weight has a gradient, and its outputs change; `patience` times in a row.

    Defaults: patience 3. One batch moves the statistics by a tenth (the default momentum) of the distance to its own,
    which rounding does not hide.

    Needs: `buffers`, `gradients`. Looks at `activations`. Costs: two comparisons a buffer.

    Healthy look-alikes: frozen parts of a fine-tuned model: their weights are frozen too (`requires_grad`, or no
    optimizer has them); a normalisation without weights is not judged; branches that are not used, or whose outputs
    have become constant, as activations tell where they are captured.

    Example: `NormalizationFrozen(exclude="^backbone")`
    """

    needs = ("buffers", "gradients")
    wants = ("activations",)
    expected = False
    causes = ("the normalisation is in evaluation mode, alone or with the model", "a momentum of 0")
    remedies = ("model.train() before training", "freeze its weight too, if it is meant to be frozen")

    patience: int = 3

    def check(self, step: Step, state: State) -> Iterator[Condition]:
        """Compare with the captured step before."""
        rows = self.rows(step, "buffers", where=_is_running_mean)
        if not len(rows):
            return
        still = np.full(len(rows), step.progress.updated)
        for statistic in ("sum", "l2"):
            still &= ~_changed(rows, statistic, state, len(step.catalogue))
        outputs = [step.group("activations", phase) for phase in step.phases("activations")]
        moves = [_changed(some, "l2", state, len(step.catalogue)) for some in outputs]
        if still.any():
            moving = {some.names[at] for some, of in zip(outputs, moves, strict=True) for at in np.flatnonzero(of)}
            trained = set(_trained(step))
            modules = [name.removesuffix(".running_mean") for name in rows.names]
            still &= [f"{module}.weight" in trained and (not outputs or module in moving) for module in modules]
        sentence = "{tensor} stands still while the weight of its module is trained"
        yield Condition(rows, still, sentence, 0.0, 0.0)


def _is_running_mean(key: Key) -> bool:
    return key.name.endswith("running_mean")


def _changed(rows: Group, statistic: str, state: State, count: int) -> Array:
    """Whether a statistic is another than at the step before; what has none before has changed."""
    before = state.of_tensors(f"{rows.part.group}_{rows.part.phase}_{statistic}", count, np.nan)
    changed: Array = before[rows.ids] != rows[statistic]
    before[rows.ids] = rows[statistic]
    return changed


def _trained(step: Step) -> Iterator[str]:
    """Weights with a gradient that an optimizer uses, or may use where none was attached."""
    gradients = step.group("gradients")
    return (key.name for key in gradients.keys if key.facts.get("optimizer", 0) is not None)
