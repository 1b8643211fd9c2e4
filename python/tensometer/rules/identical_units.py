"""Units that are copies of one another, and stay so."""

import math
from collections.abc import Iterator

from tensometer.rules.base import Condition, Rule
from tensometer.rules.group import Key
from tensometer.rules.modules import beside, is_layer
from tensometer.rules.state import State
from tensometer.rules.step import Step


class IdenticalUnits(Rule):
    """Units of a layer have the same weights, and get the same gradients: the layer is as good as one of few units.

    Condition: `identical`: the fraction of rows with the bits of an earlier row is at least `share`, after updates at a
    learning rate that is not 0, `patience` times in a row. `stuck`: all weights of a layer and all of their gradient
    are zero while gradients of others are not, as where two layers in a row begin at zero.

    Defaults: share 0.3. Rows of random weights are never equal; those of a constant layer are all, but for a few that
    rounding tells apart where the size of the layer is no multiple of the machine's vectors. patience 2.

    Needs: `weights/identical_units`. Looks at `gradients`. Costs: a fingerprint of every row of the weights.

    Healthy look-alikes: rows of zeros, as pruning, padding and zero-initialised outputs and adapters (LoRA) have them,
    count as no copies, and a layer of zeros has a gradient; constant weights before the first update, whose gradients
    differ; frozen weights; tables of embeddings; rows of less than four weights, which clipping may make equal.

    Example: `IdenticalUnits(exclude="mask")`
    """

    fractions = ("share",)
    needs = ("weights/identical_units",)
    wants = ("weights", "gradients", "loop")
    causes = ("weights that were initialised with a constant", "a layer that was copied onto itself")
    remedies = ("random initialisation; only biases, and the last layer of a branch, may begin at zero",)

    patience: int = 2
    share: float = 0.3

    def check(self, step: Step, state: State) -> Iterator[Condition]:
        """Judge each weight by itself."""
        updated = step.progress.updated and step.progress.rate != 0
        rows = self.rows(step, "weights", where=_has_units)
        share = beside(step, rows, "weights/identical_units")
        sentence = "{value:.0%} of the units of {tensor} are copies of others, and stay so in training"
        holds = (share >= self.share) & (rows["nonfinite"] == 0) & updated
        yield Condition(rows, holds, sentence, share, self.share, kind="identical")

        layers = rows.where(is_layer)
        zero, gradient = layers["zero_fraction"], beside(step, layers, "gradients", "zero_fraction")
        stuck = (zero == 1) & (gradient == 1) & updated
        if stuck.any() and not (step.group("gradients")["zero_fraction"] < 1).any():
            stuck[:] = False
        sentence = "all weights of {tensor} are zero, and so is their gradient: they will never be anything else"
        yield Condition(layers, stuck, sentence, gradient, 1.0, kind="stuck", patience=self.patience + 1)


def _has_units(key: Key) -> bool:
    table = "Embedding" in str(key.facts.get("module_type")) or "embed" in key.name.lower()
    several = len(key.shape) > 1 and key.shape[0] > 1 and math.prod(key.shape[1:]) >= 4
    return several and not table and key.facts.get("requires_grad") is not False
