"""Gradients that become smaller from layer to layer."""

from collections.abc import Iterator

import numpy as np

from tensometer.rules.base import Condition, Rule
from tensometer.rules.group import Array, Group
from tensometer.rules.state import State
from tensometer.rules.step import Step
from tensometer.rules.tensors import is_trained_matrix, joined, natural_rms


class VanishingGradient(Rule):
    """The gradient all but disappears on its way from the last layer to the first, which do not learn.

    Condition: of the trained weight matrices in the model's order, `r = rms(gradient) / rms(weight)`; a line is fitted
    to `log10 r` over their places. It explains half of the variance, and over all layers r falls to `drop` of what it
    is at the end or less, by `per_layer` a layer or less, for `patience` steps; or to `lasting_drop` at whatever pace,
    for `lasting_patience` steps. Also: a matrix whose gradient was exactly 0 ever since the beginning, for
    `zero_patience` steps, while another's is not.

    Defaults: drop 2e-4 and per_layer 0.3. A sigmoid passes on a quarter at most, with PyTorch's initialisation 0.13 a
    layer was measured, weights that are ten times too small pass on 0.1; ReLU with that initialisation 0.4, tanh 0.6,
    residual networks 1. Healthy runs were above 1e-2.5 altogether, those whose last layer begins at zero, or small tanh
    networks of derivatives, above 3e-4 from the third step on; faults below 1e-5. lasting_drop 1e-4 for 25 steps:
    twelve layers of GELU begin there, and leave it within 20 steps if they learn at all. A weight counts as no smaller
    than a sixth of what it usually begins with.

    Needs: `gradients`, `weights`. Costs: a few operations over the matrices.

    Healthy look-alikes: weights, heads, gates and adapters that begin at zero (their gradient is 0 for a step, and
    beside them the others' is small: a line over many layers does not see them); small gradients everywhere (only the
    profile counts); embeddings of rare tokens, frozen weights (not judged); experts that get no rows any more (they had
    a gradient); a solved problem (all shrink alike).

    Example: `VanishingGradient(drop=1e-4, patience=5)`
    """

    needs = ("gradients", "weights")
    causes = ("many layers of saturating functions (sigmoid, tanh)", "weights that begin too small")
    remedies = ("ReLU or GELU, residual connections, normalisation", "He or Xavier initialisation")

    patience: int = 3
    drop: float = 2e-4
    per_layer: float = 0.3
    lasting_drop: float = 1e-4
    lasting_patience: int = 25
    zero_patience: int = 20
    layers: int = 4

    def check(self, step: Step, state: State) -> Iterator[Condition]:
        """Judge the profile, and gradients that are nothing."""
        gradients = self.rows(step, "gradients", where=is_trained_matrix)
        weights = step.group("weights").where(is_trained_matrix)
        if step.progress.skipped or len(gradients) < 2 or gradients["nonfinite"].any():
            return
        zero = gradients["l2"] == 0
        had = state.of_tensors("had", len(step.catalogue), False)
        had[gradients.ids] |= ~zero
        yield Condition(
            gradients,
            ~had[gradients.ids] & (not zero.all()),
            "the gradient of {tensor} has always been exactly 0, others are not",
            0.0,
            0.0,
            kind="zero",
            patience=self.zero_patience,
        )
        places, decades = _profile(step, gradients, weights)
        total, slope = (0.0, 0.0) if len(places) < self.layers else _fall(places, decades)
        first, last = (gradients.names[at] for at in (0, -1))
        steep = 10**total <= self.drop and 10**slope <= self.per_layer
        for kind, holds, limit, patience in (
            ("steep", steep, self.drop, self.patience),
            ("lasting", 10**total <= self.lasting_drop and not steep, self.lasting_drop, self.lasting_patience),
        ):
            yield self.about(
                holds,
                "from {last} to {tensor} gradients shrink to {value:.1e} of what they are, beside their weights",
                value=10**total,
                threshold=limit,
                step=step,
                tensor=first,
                collection="gradients",
                kind=kind,
                patience=patience,
                last=last,
            )


def _profile(step: Step, gradients: Group, weights: Group) -> tuple[Array, Array]:
    """The places of matrices in the model's order, from 0, and the decades of their gradients beside their weights."""
    floor = 0.17 * weights.each(natural_rms)
    sizes = joined(gradients, weights, np.maximum(weights["rms"], floor))
    order = joined(gradients, weights, np.arange(len(weights), dtype=float))
    known = (gradients["rms"] > 0) & ~np.isnan(order)
    places = order[known]
    return places, np.log10(gradients["rms"][known] / sizes[known])


def _fall(places: Array, decades: Array) -> tuple[float, float]:
    """The decades of the line from the last to the first place, and a place; 0 if it explains less than half."""
    x, y = places - places.sum() / len(places), decades - decades.sum() / len(decades)
    along, wide, high = float(x @ y), float(x @ x), float(y @ y)
    if along <= 0 or along * along < 0.5 * wide * high:
        return 0.0, 0.0
    slope = along / wide
    return -slope * float(places[-1] - places[0]), -slope
