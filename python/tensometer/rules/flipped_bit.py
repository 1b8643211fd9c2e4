"""A single element that is suddenly larger by orders of magnitude."""

from collections.abc import Iterator

import numpy as np

from tensometer.rules.base import Condition, Rule
from tensometer.rules.finding import Severity
from tensometer.rules.group import Key
from tensometer.rules.state import State
from tensometer.rules.step import Step


class FlippedBit(Rule):
    """One element of a weight jumps from one step to the next, and all the others stay about what they were.

    Condition: with `top` the largest magnitude of a parameter, and `rest` the sum of all the other magnitudes: top is
    at least `jump` times that of the captured step before, and rest has changed by at most `apart` of itself, and by
    less than half of top.

    Defaults: jump 4: a bit of an exponent multiplies by 2, 4, 16, 256 or more, and an update adds a small part of a
    weight; apart 0.05: an optimizer's step that is too long changes many elements, and rest by a fifth at least was
    measured where top grew by 4; one that is as it should be by 0.003.

    Needs: `weights`. Costs: a few operations over the weights.

    Healthy look-alikes: weights that begin at zero (top was 0, or rest grows with it); rare rows of an embedding (more
    than one element, which are half of top together); a spike of the gradient (many elements); a weight that is put in
    anew (rest is another); tensors of less than 16 elements (not judged).

    Example: `FlippedBit(jump=16)`
    """

    needs = ("weights",)
    causes = ("memory or an accelerator that is broken", "code that writes one element")
    remedies = ("go back to a checkpoint before this step", "test the machine's memory, and run elsewhere")

    severity: Severity = Severity.FATAL
    jump: float = 4.0
    apart: float = 0.05

    def check(self, step: Step, state: State) -> Iterator[Condition]:
        """Compare the largest element, and the sum of the others, with those of the step before."""
        weights = self.rows(step, "weights", where=_is_large)
        if not len(weights):
            return
        tops = state.of_tensors("top", len(step.catalogue), np.nan)
        rests = state.of_tensors("rest", len(step.catalogue), np.nan)
        top, before = weights["linf"], tops[weights.ids]
        rest, rest_before = weights["l1"] - top, rests[weights.ids]
        tops[weights.ids], rests[weights.ids] = top, rest
        # Beside an element of 2^64 the others are lost in the sum; what is left of them is no more than its rounding.
        room = np.minimum(self.apart * rest_before + 1e-6 * top, 0.5 * top)
        holds = (before > 0) & (top >= self.jump * before) & (np.abs(rest - rest_before) <= room)
        sentence = "one element of {tensor} is {value:.3g} times what was the largest a step before; the others are not"
        yield Condition(weights, holds, sentence, top / np.maximum(before, 1e-300), self.jump)


def _is_large(key: Key) -> bool:
    size = 1
    for length in key.shape:
        size *= length
    return size >= 16
