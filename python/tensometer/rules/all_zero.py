"""Tensors that are zero altogether."""

from collections.abc import Iterator

from tensometer.rules.base import Condition, Rule
from tensometer.rules.group import Key
from tensometer.rules.state import State
from tensometer.rules.step import Step


class AllZero(Rule):
    """The outputs of a module, or the inputs of the model, are all zero.

    Condition: `zeros / count >= share`, for `patience` captured steps in a row.

    Defaults: share 1, as in Amazon SageMaker Debugger's AllZero; patience 3, so that one batch in which every sample
    is dropped is none. A sampled histogram has no part in it: zeros are counted exactly.

    Needs: `activations`. Costs: one comparison a tensor.

    Healthy look-alikes: residual branches that begin at zero (ReZero, Fixup, adaLN-zero) are zero until the first
    update only, which patience outlasts; masks and dropout of everything for one batch; biases and norm offsets that
    are zero are no activations, and not judged.

    Example: `AllZero(patience=5, exclude="adapter")`
    """

    fractions = ("share",)
    needs = ("activations",)
    wants = ("inputs",)
    causes = ("inputs that are zero or were masked away", "a layer whose units are all dead", "weights that are zero")
    remedies = ("look at what goes into the module", "see DyingReLU and PoorInitialization, if they fire too")

    patience: int = 3
    share: float = 1.0

    def check(self, step: Step, state: State) -> Iterator[Condition]:
        """Judge each output and input by itself."""
        for kind in ("activations", "inputs"):
            rows = self.rows(step, kind, where=_has_elements)
            share = rows["zero_fraction"]
            sentence = "{tensor} is zero: {value:.0%} of its elements"
            yield Condition(rows, share >= self.share, sentence, share, self.share, kind=kind)


def _has_elements(key: Key) -> bool:
    return len(key.shape) > 0
