"""Attention that sees one position, or all alike."""

from collections.abc import Iterator

import numpy as np

from tensometer.rules.base import Condition, Rule
from tensometer.rules.finding import Severity
from tensometer.rules.group import Key
from tensometer.rules.state import State
from tensometer.rules.step import Step


class AttentionCollapse(Rule):
    """Each query of an attention sees a single key, or all keys alike for long.

    Condition, of weights p over S keys: `single`: the mean over queries of sum(p^2), which is `S rms(p)^2`, is at least
    `share`, for `patience` captured steps in a row; one over it is the effective number of keys. `uniform` (told as
    information): it is within 1e-4 of its least, 1 / S, for 100 steps.

    Defaults: share 0.95. At first attention is nearly uniform, and sharp heads that have learned to look up one
    position come to 0.9; logits that lack the division by the root of the width are at 0.98 from the start. patience 3.

    Needs: `activations`. Seen are outputs of nn.Softmax with three or more dimensions and the weights that
    nn.MultiheadAttention returns; of these the average over heads is what there is, unless it is told not to average.
    Functional attention is not seen. Costs: one comparison a module.

    Healthy look-alikes: less than four keys; the first queries of a causal mask, which see few keys: the mean over all
    counts; softmax of classes, of experts: two dimensions, or the model's last module.

    Example: `AttentionCollapse(share=0.9)`
    """

    fractions = ("share",)
    needs = ("activations",)
    expected = False
    causes = ("logits that are not divided by the root of the width", "queries and keys that grow", "a rate too large")
    remedies = ("divide by the root of the width", "normalize queries and keys", "a smaller learning rate, a warm-up")

    patience: int = 3
    share: float = 0.95

    def check(self, step: Step, state: State) -> Iterator[Condition]:
        """Judge each module by itself."""
        rows = self.rows(step, "activations", where=_is_attention)
        if not len(rows):
            return
        keys = np.array([key.shape[-1] for key in rows.keys])
        concentration = keys * rows["rms"] ** 2
        last = step.group("activations").part.rows[-1]
        holds = (concentration >= self.share) & (rows.part.rows < last)
        sentence = "each query of {tensor} sees one key: sum(p^2) is {value:.2f} on average, and 1 at most"
        yield Condition(rows, holds, sentence, concentration, self.share, kind="single")

        holds = (keys * concentration < 1 + 1e-4) & step.progress.full_rate & step.progress.updated
        sentence = "all queries of {tensor} still see all keys alike: their weights differ by less than 1 %"
        evenness = keys * concentration
        yield Condition(rows, holds, sentence, evenness, 1 + 1e-4, {}, "uniform", Severity.INFO, 100)


def _is_attention(key: Key) -> bool:
    kind = key.facts.get("module_type")
    weights = kind == "Softmax" or (kind == "MultiheadAttention" and key.name.endswith(".1"))
    return weights and len(key.shape) > 2 and key.shape[-1] >= 4
