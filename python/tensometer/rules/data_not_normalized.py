"""Inputs of a size or an offset that networks do not expect."""

from collections.abc import Iterator

import numpy as np

from tensometer.rules.base import Condition, Rule
from tensometer.rules.group import Key
from tensometer.rules.state import State
from tensometer.rules.step import Step

_NOT_JUDGED = ("mask", "time", "position", "length", "weight")


class DataNotNormalized(Rule):
    """The inputs are far larger, far smaller or farther from zero than what initial weights and usual rates suit.

    Condition: over all samples seen, once there were `samples`: the root mean square `> largest`, or all magnitudes
    `< smallest`, or the mean is more than `offset` standard deviations, and more than 1, off zero.

    Defaults: the data's own units do not matter, only their size. Standardised inputs have a root mean square of 1,
    those from 0 to 1 or -1 to 1 one below 1; bytes have some 100, tables in their own units anything: largest 10 lies
    in between, and one forgotten column of 100s among ten is enough. smallest 0.02: bytes divided by 255 twice reach
    0.004. offset 10: pixels of white paper (mean 0.9, deviation 0.2) are 4.5 off. The mean alone, off 0 by 0.2 as in
    Amazon SageMaker Debugger's CheckInputImages, is what every image from 0 to 1 has.

    Needs: `inputs` that are floating-point, with one row a sample. Wants: `activations`. Costs: a few comparisons an
    input.

    Healthy look-alikes: tokens and other whole numbers, times and positions (one number a sample), masks (negative or
    zero, by their values or name) are not judged; nor is a model that normalises by itself, as the output of its first
    module tells by its size.

    Example: `DataNotNormalized(largest=300.0)` for a network that was trained on bytes.
    """

    needs = ("inputs",)
    wants = ("activations",)
    causes = ("data in their own units, as bytes or a table has them", "a scaling that was forgotten, or done twice")
    remedies = ("subtract the mean and divide by the standard deviation of the training data, per channel or column",)

    patience: int = 2
    largest: float = 10.0
    smallest: float = 0.02
    offset: float = 10.0
    samples: int = 60

    def check(self, step: Step, state: State) -> Iterator[Condition]:
        """Judge each input by what was seen of it so far."""
        rows = self.rows(step, "inputs", where=_is_measured)
        if not len(rows):
            return
        sums = [
            state.of_tensors(name, len(step.catalogue), 0.0) for name in ("samples", "count", "sum", "square", "max")
        ]
        ids, (samples, count, total, square, most) = rows.ids, sums
        finite = rows["count"] - rows["nonfinite"]
        samples[ids] += [key.shape[0] for key in rows.keys]
        count[ids] += finite
        total[ids] += np.where(finite > 0, rows["mean"] * finite, 0.0)
        square[ids] += np.where(finite > 0, rows["l2"] ** 2, 0.0)
        most[ids] = np.maximum(most[ids], np.where(finite > 0, rows["linf"], 0.0))
        judged = (samples[ids] >= self.samples) & (count[ids] > 0) & (rows["max"] > 0) & (rows["neginf"] == 0)
        if not judged.any():
            return
        of = np.maximum(count[ids], 1.0)
        mean, size = total[ids] / of, np.sqrt(square[ids] / of)
        deviation = np.sqrt(np.maximum(size**2 - mean**2, 0.0))
        large = judged & (size > self.largest)
        small = judged & (most[ids] < self.smallest) & (most[ids] > 0)
        off = judged & (deviation > 0) & (np.abs(mean) > np.maximum(self.offset * deviation, 1.0)) & ~large
        bad = large | small | off
        if bad.any() and _normalises(step, float(size[bad.argmax()]), self.largest, self.smallest):
            return
        sentence = "{tensor} has a root mean square of {value:.3g}; 1 is usual"
        yield Condition(rows, large, sentence, size, self.largest, kind="large")
        sentence = "{tensor} is at most {value:.2g} in magnitude; 1 is usual"
        yield Condition(rows, small, sentence, most[ids], self.smallest, kind="small")
        sentence = "{tensor} has a mean of {value:.3g} and a standard deviation of only {deviation:.2g}"
        yield Condition(rows, off, sentence, mean, self.offset * deviation, {"deviation": deviation}, kind="off")


def _is_measured(key: Key) -> bool:
    return len(key.shape) > 1 and "float" in key.dtype and not any(word in key.name for word in _NOT_JUDGED)


def _normalises(step: Step, size: float, largest: float, smallest: float) -> bool:
    """Whether the model brings its inputs to a usual size before its first layer, as that layer's output tells."""
    outputs = step.group("activations")
    if not len(outputs):
        return False
    first = float(outputs["rms"][0])
    if outputs.facts("module_type", "")[0].startswith(("Linear", "Conv")):
        # At the usual initial scale it passes on more than half of what goes in.
        return first < 0.2 * size
    return smallest < first < largest
