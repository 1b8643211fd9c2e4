"""What rules about activations know of modules: their types, how many samples a unit has, rows of other groups."""

import math

from tensometer.rules.group import TRAIN, Array, Group, Key
from tensometer.rules.progress import Progress
from tensometer.rules.step import Step
from tensometer.rules.tensors import joined

# What multiplies by weights, of PyTorch: the layers that a network consists of.
_LAYERS = ("Linear", "Conv", "LazyLinear", "LazyConv", "Bilinear", "LSTM", "GRU", "RNN", "MultiheadAttention")
# Of a loss that has come down to such a share of its first value little is left to learn: gradients vanish, and units
# saturate, because it is solved.
_SOLVED = 0.02


def is_layer(key: Key) -> bool:
    """Whether a row is of a module with weights that mix its inputs."""
    return str(key.facts.get("module_type", "")).startswith(_LAYERS)


def samples_per_unit(key: Key) -> int:
    """How many elements each unit of an activation has: samples, and positions in them. 0 where there are no units."""
    if len(key.shape) < 2:
        return 0
    axis = int(key.facts.get("unit_axis", 0)) % len(key.shape)
    return math.prod(key.shape[:axis] + key.shape[axis + 1 :])


def beside(step: Step, rows: Group, group: str, statistic: str = "mean") -> Array:
    """A statistic of the rows that another group has of the same tensors, in the same phase; NaN where it has none."""
    other = step.group(group, rows.part.phase)
    return joined(rows, other, other[statistic])


def is_hidden(step: Step, rows: Group) -> Array:
    """Whether activations are within the network: a layer still follows. What comes after the last is its output."""
    layers = step.group("activations", TRAIN).where(is_layer).part.rows
    return rows.part.rows < (layers[-1] if len(layers) else 0)


def solved(progress: Progress, left: float = _SOLVED) -> bool:
    """Whether little is left to learn, as some loss tells: such a part of its first value."""
    return any(abs(loss.smooth) <= left * abs(loss.first) for loss in progress.losses.values())
