"""Numbers near the end of their format."""

from collections.abc import Iterator

import numpy as np

from tensometer.rules.base import Condition, Rule
from tensometer.rules.finding import Severity
from tensometer.rules.formats import is_scaled, narrow
from tensometer.rules.group import Array, Group
from tensometer.rules.state import State
from tensometer.rules.step import Step


class DtypeOverflow(Rule):
    """Activations or gradients come near the largest number of their dtype, or have passed it.

    Condition: `headroom`: the largest magnitude is at least `share` of the largest finite number, `patience` captured
    steps in a row. `infinite`: there are infinities above zero, in one step.

    Defaults: share 0.25 (16376 of float16's 65504): two doublings are left, which a single step can make. Activations
    of healthy networks stay below 1000, a hundredth. patience 2.

    Needs: `gradients`. Looks at `activations`. Costs: one comparison a tensor in float16 or float8.

    Healthy look-alikes: float32 and bfloat16 are not judged. Gradients under a GradScaler, which raises its scale until
    they overflow, and skips the step: not judged where `amp_scale` is recorded. Masks of -inf or of the smallest finite
    number in the scores of attention: what is within 1 % of that end is a mask. float8, which is scaled to its range:
    only infinities are judged.

    Example: `DtypeOverflow(share=0.5)`
    """

    fractions = ("share",)
    needs = ("gradients",)
    wants = ("activations", "loop")
    causes = ("a loss scale that is fixed and too large", "weights or inputs that are too large for float16")
    remedies = ("bfloat16", "a GradScaler", "a normalization before the layer", "this layer in float32")

    patience: int = 2
    share: float = 0.25

    def check(self, step: Step, state: State) -> Iterator[Condition]:
        """Judge each tensor by itself."""
        groups = ("activations",) if is_scaled(step) or step.progress.skipped else ("activations", "gradients")
        for group in groups:
            for form, rows in narrow(self.rows(step, group)):
                share = _largest(rows, form.largest) / form.largest
                holds = (share >= self.share) & (not form.scaled)
                sentence = f"{{tensor}} comes to {{value:.0%}} of the largest number of {form.dtype}"
                yield Condition(rows, holds, sentence, share, self.share, kind=f"headroom {group} {form.dtype}")

                infinite = rows["posinf"]
                sentence = f"{{tensor}} has {{value:.0f}} infinities: {form.dtype} ends at {form.largest:.0f}"
                kind = f"infinite {group} {form.dtype}"
                yield Condition(rows, infinite > 0, sentence, infinite, 0, {}, kind, Severity.ERROR, 1)


def _largest(rows: Group, end: float) -> Array:
    """The largest magnitude, but for masks at the lower end."""
    below = -rows["min"]
    masked = below >= 0.99 * end
    largest: Array = np.where(masked, rows["max"], np.fmax(rows["max"], below))
    return largest
