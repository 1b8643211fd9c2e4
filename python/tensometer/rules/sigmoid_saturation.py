"""Sigmoids where they are flat."""

from collections.abc import Iterator

from tensometer.rules.base import Condition, Rule
from tensometer.rules.group import Array, Group, Key
from tensometer.rules.saturation import flat
from tensometer.rules.state import State
from tensometer.rules.step import Step


class SigmoidSaturation(Rule):
    """A hidden layer's sigmoid is nearly at 0 or 1 for nearly all of its inputs: no gradient comes through.

    Condition: `4 (mean(y) - rms(y)^2) < share`, which is the mean derivative y(1 - y) of the sigmoid beside its
    largest, 1/4, for `patience` captured steps in a row; in the first three steps `< first`, if the mean of
    y lies between `side` and 1 - `side`.

    Defaults: share 0.01: inputs that are normal around zero with a deviation of 160 (the integral of the slope is 1,
    and the density at zero 0.4/160), or all of them beyond 6. Networks that learned well came down to 0.03 for some
    steps, and an unnamed gate to 0.019. first 0.15, a deviation of 11: healthy ones begin above 0.3. side 0.1: large
    weights and inputs drive units to both sides, a bias that shuts a gate to one. patience 2.

    Needs: `activations`. Costs: one comparison a module. Functional sigmoids and gates of recurrent cells are not seen.

    Healthy look-alikes: probabilities: what no layer follows is not judged; gates, which may be shut by design: modules
    with `gate` in their name, or with one output, are not judged, and others not for beginning shut; features of a
    problem that is solved: not judged once the loss is down to 2 % of its first value.

    Example: `SigmoidSaturation(share=0.1)`
    """

    fractions = ("share", "first", "side")
    needs = ("activations",)
    wants = ("losses",)
    causes = ("weights that are too large for the number of inputs", "inputs that are not normalized", "a large step")
    remedies = ("Xavier initialisation", "normalize the inputs", "a smaller learning rate", "ReLU or GELU")

    patience: int = 2
    share: float = 0.01
    first: float = 0.15
    side: float = 0.1

    def check(self, step: Step, state: State) -> Iterator[Condition]:
        """Judge each module by itself."""
        yield flat(self, step, _is_sigmoid, _slope, self.share, self.first, self.side)


def _is_sigmoid(key: Key) -> bool:
    gate = "gate" in key.name.lower() or key.shape[-1:] == (1,)
    return key.facts.get("module_type") == "Sigmoid" and not gate


def _slope(rows: Group) -> Array:
    slope: Array = 4 * (rows["mean"] - rows["rms"] ** 2)
    return slope
