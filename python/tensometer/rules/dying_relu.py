"""Units that pass nothing on, whatever goes in."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from tensometer.rules.base import Condition, Rule
from tensometer.rules.group import Key
from tensometer.rules.modules import beside, is_hidden, is_layer, samples_per_unit
from tensometer.rules.state import State
from tensometer.rules.step import Step

_RECTIFIERS = ("ReLU", "ReLU6", "RReLU", "PReLU", "LeakyReLU", "GELU", "SiLU", "Mish", "ELU", "CELU", "SELU")
_SMOOTHED = ("Hardswish", "NewGELUActivation", "QuickGELUActivation", "FastGELUActivation", "GELUActivation")
# Of a narrow layer, as in the middle of an autoencoder, most units may be idle, and the rest do.
_FEW = 16


class DyingReLU(Rule):
    """Most units of a layer are at or below zero for every sample: they pass nothing on, and do not learn.

    Condition: `inactive_units >= share`, for `patience` captured steps in a row, where a unit is inactive in a step if
    none of its elements (samples, positions) is above zero. Judged are outputs of modules of the ReLU and GELU family
    with `samples` elements a unit; in layers of less than 16 units, all must be inactive. Functional ones (`F.relu`)
    are not seen: of a model without modules the outputs of layers are judged, and the same share of the gradient of the
    weight must be exactly zero.

    Defaults: share 0.7. Networks of ReLU that learn well on batches of 32 have at most 0.4 such units, those that a
    learning rate has killed 0.8 or more. samples 16: an active unit that is above zero for one sample in eight passes
    for inactive in a batch of 16 once in eight steps, and never in three steps at 70 % of a layer. patience 3.

    Needs: `gradients`. Looks at `activations/inactive_units`. Costs: a summary of every unit of each activation.

    Healthy look-alikes: half of a ReLU layer's elements are zero: units count, not elements. Dropout zeroes elements,
    and no unit for a whole batch. Batches of a few samples are not judged. Layers that no rectifier follows, whose
    outputs may all be negative, have a gradient that is not zero; the last one is not judged.

    Example: `DyingReLU(share=0.3)`
    """

    fractions = ("share",)
    needs = ("gradients",)
    wants = ("activations", "activations/inactive_units")
    causes = ("a learning rate that is too large", "biases far below zero", "inputs that are not normalized")
    remedies = ("a smaller learning rate, or a warm-up", "LeakyReLU or GELU", "a normalization before the activation")

    patience: int = 3
    share: float = 0.7
    samples: int = 16

    def check(self, step: Step, state: State) -> Iterator[Condition]:
        """Judge modules; of a model that has none, the layers, which have functional ones behind them."""
        rows = self.rows(step, "activations", where=_is_rectifier)
        for kind, few, limit in (("module", False, self.share), ("narrow module", True, 1.0)):
            some = rows.where(_Enough(self.samples, few))
            share = beside(step, some, "activations/inactive_units")
            sentence = "{value:.0%} of the units of {tensor} are not above zero for any sample: they pass nothing on"
            yield Condition(some, share >= limit, sentence, share, limit, kind=kind)
        if not len(rows):
            yield self._functional(step)

    def _functional(self, step: Step) -> Condition:
        layers = self.rows(step, "activations", where=is_layer).where(_Enough(self.samples, few=False))
        share = beside(step, layers, "activations/inactive_units")
        holds = (share >= self.share) & is_hidden(step, layers)
        if holds.any():
            gradients = step.group("gradients")
            zero = dict(zip(gradients.names, gradients["zero_fraction"].tolist(), strict=True))
            for at in np.flatnonzero(holds).tolist():
                holds[at] = self.share <= zero.get(f"{layers.names[at]}.weight", 0.0)
        sentence = "{value:.0%} of the units of {tensor} are not above zero for any sample, and have no gradient"
        return Condition(layers, holds, sentence, share, self.share, kind="functional")


@dataclass(frozen=True)
class _Enough:
    """Lets in activations whose units have so many elements, and that have few units or not."""

    samples: int
    few: bool

    def __call__(self, key: Key) -> bool:
        samples = samples_per_unit(key)
        units = math.prod(key.shape) // samples if samples else 0
        return samples >= self.samples and (units < _FEW) == self.few


def _is_rectifier(key: Key) -> bool:
    return key.facts.get("module_type") in (*_RECTIFIERS, *_SMOOTHED)
