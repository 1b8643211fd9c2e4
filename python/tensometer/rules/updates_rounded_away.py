"""Updates that are smaller than the distance between two numbers of the weights' dtype."""

from collections.abc import Iterator

from tensometer.rules.base import Condition, Rule
from tensometer.rules.group import Key
from tensometer.rules.state import State
from tensometer.rules.step import Step
from tensometer.rules.tensors import is_trained, joined

# Half the distance between two neighbours, beside them: what is added below it is rounded away.
_ROUNDED = {"bfloat16": 2.0**-9, "float16": 2.0**-12, "float8_e4m3fn": 2.0**-5, "float8_e5m2": 2.0**-4}


class UpdatesRoundedAway(Rule):
    """The weights are of a dtype that is too coarse for their updates: most elements stay what they are.

    Condition: of a trained weight of 16 bits or fewer, at most `changed` of the elements are others after the
    optimizer's step, while at least half of its gradient's are not 0, for `patience` steps.

    Defaults: changed 0.25. A number x of bfloat16 moves by an update of at least x/512 to x/256, one of float16 by
    x/4096 to x/2048; updates are about a thousandth of a weight. Where updates are as large as the dtype resolves, more
    than half of the elements move.

    Needs: `updates/changed_fraction`, `weights`. Costs: one comparison a weight.

    Healthy look-alikes: low-precision copies of float32 masters, of which few elements change in a step (the optimizer
    has the masters, not the copies: not judged); gradients of few elements (embeddings, masks); warm-up and decay (not
    judged); an optimizer that makes up for rounding looks the same, and is to be left out by `exclude`.

    Example: `UpdatesRoundedAway(changed=0.1)`
    """

    fractions = ("changed",)
    needs = ("updates/changed_fraction", "weights")
    wants = ("gradients", "loop")
    causes = ("weights in bfloat16 or float16 without float32 masters", "a small learning rate")
    remedies = ("keep float32 weights and compute in bfloat16 (autocast)", "stochastic rounding, Kahan summation")

    patience: int = 3
    changed: float = 0.25

    def check(self, step: Step, state: State) -> Iterator[Condition]:
        """Judge each weight of low precision."""
        weights = self.rows(step, "weights", where=_is_coarse)
        progress = step.progress
        if not len(weights) or progress.skipped or not progress.updated or not progress.full_rate:
            return
        fractions = step.group("updates/changed_fraction")
        changed = joined(weights, fractions, fractions["mean"])
        gradients = step.group("gradients")
        filled = joined(weights, gradients, 1 - gradients["zero_fraction"])
        yield Condition(
            weights,
            (changed <= self.changed) & ~(filled < 0.5),
            "only {value:.0%} of {tensor} changes: {dtype} rounds away updates below {spacing:.1e} of a weight",
            changed,
            self.changed,
            more={
                "dtype": [key.dtype for key in weights.keys],
                "spacing": weights.each(_rounded),
            },
        )


def _is_coarse(key: Key) -> bool:
    return key.dtype in _ROUNDED and is_trained(key) and len(key.shape) > 0


def _rounded(key: Key) -> float:
    return _ROUNDED[key.dtype]
