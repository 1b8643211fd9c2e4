"""Weights that a network should not begin with."""

import math
from collections.abc import Iterator

import numpy as np

from tensometer.rules.base import Condition, Rule
from tensometer.rules.group import Array, Key
from tensometer.rules.modules import beside, is_layer
from tensometer.rules.state import State
from tensometer.rules.step import Step


class PoorInitialization(Rule):
    """The first weights let what comes in vanish or explode on its way through the layers, or are constant.

    Condition, in the first step alone. `gain`: rms(weight) sqrt(fan_in) > `gain`, by which the layer multiplies what
    comes in, and no normalisation follows. `signal`: how far samples lie apart, `unit_spread`, in the output of the
    last layer beside the input, or beside the first normalisation's output where there is one: below `lost`, or below
    `faded` at a factor below `shrink` a layer; or above 1 / `faded` at a factor above `gain`. `constant`: std(weight) <
    0.1 rms(weight).

    Defaults: gain 3: PyTorch's own initialisation has 0.58, LeCun's 1, He's and orthogonal ones up to 1.7; normal
    weights of deviation 1 have 8 for 64 inputs. lost 1e-8, faded 1e-4, shrink 0.1: in a plain ReLU network PyTorch's
    own has a factor of 0.41 a layer (20 layers come to 1e-8), and a deviation of 0.01 one of 0.06 for 64 inputs. One
    update has changed the weights before they are seen, which `updates` take back for the gain.

    Needs: `weights`. Looks at `updates`, `activations`, `inputs`. Costs: nothing but in the first step.

    Healthy look-alikes: branches and outputs that begin at zero (ReZero, Fixup, adaLN-zero, LoRA): zeros are judged by
    no condition, and the signal takes other ways; small last layers: two layers must shrink it; large weights before a
    normalisation; scales of channels, which are no layers; tables of embeddings.

    Example: `PoorInitialization(gain=2)`
    """

    needs = ("weights",)
    wants = ("updates", "activations", "activations/unit_spread", "inputs", "inputs/unit_spread")
    causes = ("weights that do not know their number of inputs", "a constant initialisation", "inputs out of scale")
    remedies = ("He's initialisation before ReLU, Xavier's before tanh", "a normalization between the layers")

    gain: float = 3.0
    lost: float = 1e-8
    faded: float = 1e-4
    shrink: float = 0.1

    def check(self, step: Step, state: State) -> Iterator[Condition]:
        """Judge the first step."""
        if "judged" in state:
            return
        state["judged"] = True
        weights = self.rows(step, "weights", where=_multiplies)
        fan_in = np.array([math.prod(key.shape[1:]) for key in weights.keys])
        # They have been updated once: the update may be what is too large.
        gain = (weights["rms"] - np.nan_to_num(beside(step, weights, "updates", "rms"))) * np.sqrt(fan_in)
        normalised = set(_normalised(step))
        alone = np.array([name.rpartition(".")[0] not in normalised for name in weights.names], bool)
        sentence = "{tensor} multiplies what comes in by {value:.3g}: it is too large for its number of inputs"
        yield Condition(weights, (gain > self.gain) & alone, sentence, gain, self.gain, kind="gain")

        limit = 0.1 * weights["rms"]
        sentence = "{tensor} is constant but for a deviation of {value:.3g}: all units of the layer are one"
        yield Condition(weights, weights["std"] < limit, sentence, weights["std"], limit, kind="constant")
        yield from self._signal(step)

    def _signal(self, step: Step) -> Iterator[Condition]:
        layers = step.group("activations").where(is_layer)
        entered = beside(step, step.group("inputs").where(_is_float), "inputs/unit_spread")
        passed = beside(step, layers, "activations/unit_spread")
        norms = step.group("activations").where(_is_normalisation)
        if len(norms):
            entered = beside(step, norms, "activations/unit_spread")[:1]
            passed = passed[layers.part.rows > norms.part.rows[0]]
        comes, goes = _positive(entered), _positive(passed)
        if len(comes) != 1 or len(goes) < 2:
            return
        ratio = goes[-1] / comes[0]
        factor = ratio ** (1 / len(goes))
        fades = ratio < self.lost or (ratio < self.faded and factor < self.shrink)
        grows = ratio > 1 / self.faded and factor > self.gain
        sentence = (
            "what tells samples apart changes {value:.2g} times a layer, and is {ratio:.2g} times the input's at last"
        )
        more = {"ratio": ratio, "kind": "signal", "tensor": layers.names[-1], "collection": "activations"}
        limit = self.gain if grows else self.shrink
        yield self.about(fades or grows, sentence, value=factor, threshold=limit, step=step, **more)


def _multiplies(key: Key) -> bool:
    return is_layer(key) and len(key.shape) > 1 and key.shape[0] > 1


def _is_float(key: Key) -> bool:
    return "float" in key.dtype


def _is_normalisation(key: Key) -> bool:
    return "Norm" in str(key.facts.get("module_type", ""))


def _positive(values: Array) -> list[float]:
    return [value for value in values.tolist() if value > 0]


def _normalised(step: Step) -> Iterator[str]:
    """Modules whose output goes to a normalisation next."""
    rows = step.group("activations")
    types = rows.facts("module_type", "").tolist()
    return (name for name, behind in zip(rows.names, types[1:], strict=False) if "Norm" in behind)
