"""Models that say the same of every sample."""

from collections.abc import Iterator

import numpy as np

from tensometer.rules.base import Condition, Rule
from tensometer.rules.group import Array, Group, Key
from tensometer.rules.modules import beside, samples_per_unit
from tensometer.rules.state import State
from tensometer.rules.step import Step


class LowVariance(Rule):
    """Every sample of a batch gives the same output, or is the same.

    Condition: `unit_spread <= share rms(y)` (how far the elements of one unit lie apart, beside their size) of all
    inputs; or, where inputs differ, of the output of the model's last module. The first is named of the modules that
    are so down to the last. `patience` steps in a row, in which an optimizer steps.

    Defaults: share 1e-6, a few times the spacing of float32: what is left then is rounding. patience 3: an output that
    begins at zero is constant until the first update.

    Needs: `activations/unit_spread`, `inputs/unit_spread`. Costs: a summary of every unit.

    Healthy look-alikes: outputs and branches that begin at zero; constant parts of a model (positions, a temperature,
    a branch that is switched off): what follows them differs, and only what is constant to the end is judged; masks and
    positions among the inputs: all inputs must be constant; batches of one sample are not judged.

    Example: `LowVariance(share=1e-4)`
    """

    needs = ("activations/unit_spread", "inputs/unit_spread")
    wants = ("activations", "inputs", "loop")
    causes = (
        "a loader that repeats one sample",
        "inputs that were rounded or masked away",
        "layers whose units are dead",
    )
    remedies = ("look at a few inputs", "see DyingReLU, TanhSaturation and PoorInitialization, if they fire too")

    patience: int = 3
    share: float = 1e-6

    def check(self, step: Step, state: State) -> Iterator[Condition]:
        """Judge the inputs, then the modules from the last one back."""
        inputs, outputs = (self.rows(step, name, where=_has_samples) for name in ("inputs", "activations"))
        spread = beside(step, inputs, "inputs/unit_spread")
        alike = self._constant(inputs, spread)
        same = len(inputs) > 0 and bool(alike.all()) and step.progress.updated
        sentence = "all samples are the same in {tensor}: they differ by {value:.1g}"
        limit = self.share * inputs["rms"]
        yield Condition(inputs, alike & same, sentence, spread, limit, kind="inputs")

        spread = beside(step, outputs, "activations/unit_spread")
        constant = self._constant(outputs, spread)
        holds = constant & step.progress.updated & (not same)
        differ = np.flatnonzero(~constant)
        holds[: differ[-1] if len(differ) else 0] = False
        sentence = "{tensor} is the same for all samples: they differ by {value:.1g}"
        limit = self.share * outputs["rms"]
        yield Condition(outputs, holds, sentence, spread, limit, kind="outputs")

    def _constant(self, rows: Group, spread: Array) -> Array:
        # What is not finite is another rule's.
        found: Array = (spread <= self.share * rows["rms"]) & (rows["nonfinite"] == 0)
        return found


def _has_samples(key: Key) -> bool:
    return samples_per_unit(key) > 1
