"""Batches of tokens that are mostly padding."""

from collections.abc import Iterator

import numpy as np

from tensometer.rules.base import Condition, Rule
from tensometer.rules.group import Key
from tensometer.rules.state import State
from tensometer.rules.step import Step
from tensometer.rules.tensors import joined

# Whole numbers of which the largest is below this are bits, masks or segments.
_LEAST_VOCABULARY = 8


class TokenRatio(Rule):
    """Most tokens that go into the model are padding.

    Condition: the share of padding in inputs of whole numbers with at least two dimensions `> share`, over all that
    were seen, after `patience` captured steps. Padding is the `padding_idx` of the model's embeddings, otherwise 0; of
    an input that is named attention_mask, what it masks.

    Defaults: Amazon SageMaker Debugger's NLPSequenceRatio has 50 %. Lines of text that are filled up to the longest of
    their batch come near that without harm; two thirds (share 0.65) say that batches are put together badly. Other
    tokens, as the one for unknown words, cannot be counted from summaries.

    Needs: `inputs`. Silent for inputs that are no tokens. Costs: one comparison an input.

    Healthy look-alikes: attention masks, segment numbers and bits by other names are not judged: their largest value is
    below 8. One short batch among others hardly changes the share of all.

    Example: `TokenRatio(share=0.9)`
    """

    fractions = ("share",)
    needs = ("inputs",)
    wants = ("inputs/padding",)
    causes = ("sequences of very different lengths in one batch", "a fixed length far above that of most sequences")
    remedies = ("sort sequences into batches of similar lengths", "pack several into one, or cut the longest")

    patience: int = 3
    share: float = 0.65

    def check(self, step: Step, state: State) -> Iterator[Condition]:
        """Judge each input of whole numbers by all that was seen of it."""
        rows = self.rows(step, "inputs", where=_is_tokens)
        if not len(rows):
            return
        ids, number = rows.ids, len(step.catalogue)
        padding, count = (state.of_tensors(name, number, 0.0) for name in ("padding", "count"))
        largest = state.of_tensors("largest", number, 0.0)
        known = step.group("inputs/padding")
        shares = joined(rows, known, known["mean"])
        padding[ids] += np.where(np.isnan(shares), rows["zeros"], shares * rows["count"])
        count[ids] += rows["count"]
        largest[ids] = np.maximum(largest[ids], rows["max"])
        share = padding[ids] / np.maximum(count[ids], 1.0)
        holds = (share > self.share) & ((largest[ids] >= _LEAST_VOCABULARY) | (rows.each(_is_mask) > 0))
        yield Condition(rows, holds, "{tensor}: {value:.0%} of the tokens are padding", share, self.share)


def _is_tokens(key: Key) -> bool:
    return len(key.shape) > 1 and ("int" in key.dtype or _is_mask(key))


def _is_mask(key: Key) -> bool:
    return key.name.endswith("attention_mask") and len(key.shape) == 2
