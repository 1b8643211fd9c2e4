"""Numbers too small for their format."""

from collections.abc import Iterator

from tensometer.rules.base import Condition, Rule
from tensometer.rules.formats import FORMATS, Format, is_scaled, narrow
from tensometer.rules.group import Array, Group, Key
from tensometer.rules.modules import solved
from tensometer.rules.state import State
from tensometer.rules.step import Step

_FLOAT16 = FORMATS[0]


class DtypeUnderflow(Rule):
    """Gradients or activations are so small that their dtype rounds most of them to zero, or to a few steps.

    Condition: `0 < rms < steps * smallest`, where `smallest` is the smallest number of the format above zero (float16:
    2^-24 = 6e-8), or the gradients of all tensors of the format are zero, for `patience` captured steps in a row. The
    same of float32 gradients that are computed in float16
    (activations are), without a gradient scaler, if a third of them is exactly zero.

    Defaults: steps 16: of normal numbers of a deviation of 16 steps half have less than four bits. Healthy gradients in
    float16 have a hundred times more. patience 3.

    Needs: `gradients`. Looks at `activations`. Costs: one comparison a tensor in float16 or float8.

    Healthy look-alikes: gradients that are exactly zero (adapters and gates that begin at zero, ReLU) have no part in
    it; float32 and bfloat16 alone are never judged; a problem that is solved: the loss is down to 2 % of its first
    value.

    Example: `DtypeUnderflow(steps=4)`
    """

    needs = ("gradients",)
    wants = ("activations", "losses", "loop")
    causes = ("float16 without a scaled loss", "a loss that is divided by a large number", "vanishing gradients")
    remedies = ("a GradScaler", "bfloat16", "the mean of the loss instead of a small weight")

    patience: int = 3
    steps: float = 16.0

    def check(self, step: Step, state: State) -> Iterator[Condition]:
        """Judge each tensor by itself."""
        if solved(step.progress):
            return
        for group in ("activations", "gradients"):
            for form, rows in narrow(self.rows(step, group)):
                nothing = group == "gradients" and len(rows) > 1 and not rows["rms"].any()
                yield self._lost(rows, form, (rows["rms"] > 0) | nothing, f"{group} {form.dtype}")
        if len(step.group("activations").where(_FLOAT16)) and not is_scaled(step):
            rows = self.rows(step, "gradients", where=_is_float32)
            yield self._lost(rows, _FLOAT16, (rows["rms"] > 0) & (rows["zero_fraction"] > 1 / 3), "autocast")

    def _lost(self, rows: Group, form: Format, candidates: Array, kind: str) -> Condition:
        rms, limit = rows["rms"], self.steps * form.smallest
        sentence = f"{{tensor}} is lost in {form.dtype}: its rms is {{value:.1g}}, less than {self.steps:g} steps"
        return Condition(rows, candidates & (rms < limit), sentence, rms, limit, kind=kind)


def _is_float32(key: Key) -> bool:
    return key.dtype == "float32"
