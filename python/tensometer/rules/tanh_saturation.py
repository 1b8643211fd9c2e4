"""Tanh where it is flat."""

from collections.abc import Iterator

from tensometer.rules.base import Condition, Rule
from tensometer.rules.group import Array, Group, Key
from tensometer.rules.saturation import flat
from tensometer.rules.state import State
from tensometer.rules.step import Step


class TanhSaturation(Rule):
    """A hidden layer's tanh is nearly at -1 or 1 for nearly all of its inputs: no gradient comes through.

    Condition: `1 - rms(y)^2 < share`, which is the mean derivative of y = tanh(x) exactly, for `patience` captured
    steps in a row; in the first three steps `< first`.

    Defaults: share 0.05: inputs that are normal around zero with a deviation of 16 (the integral of the slope is 2,
    and the density at zero 0.4/16). Networks that learn well stay above 0.2, those that a learning rate has driven into
    saturation are below 0.02. first 0.15, a deviation of 5: before anything is learned it is the scale of weights or
    inputs, and healthy ones begin above 0.5. patience 2.

    Needs: `activations`. Costs: one comparison a module. Functional tanh and the gates of recurrent cells are not seen.

    Healthy look-alikes: outputs in -1 to 1 (images, actions), which are meant to reach the ends: what no layer follows
    is not judged; features of a problem that is solved: not judged once the loss is down to 2 % of its first value.

    Example: `TanhSaturation(share=0.1, exclude="gate")`
    """

    fractions = ("share", "first")
    needs = ("activations",)
    wants = ("losses",)
    causes = ("weights that are too large for the number of inputs", "inputs that are not normalized", "a large step")
    remedies = ("Xavier initialisation", "normalize the inputs", "a smaller learning rate", "ReLU or GELU")

    patience: int = 2
    share: float = 0.05
    first: float = 0.15

    def check(self, step: Step, state: State) -> Iterator[Condition]:
        """Judge each module by itself."""
        yield flat(self, step, _is_tanh, _slope, self.share, self.first)


def _is_tanh(key: Key) -> bool:
    return key.facts.get("module_type") == "Tanh"


def _slope(rows: Group) -> Array:
    slope: Array = 1 - rows["rms"] ** 2
    return slope
