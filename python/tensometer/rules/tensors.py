"""What rules about parameters share: which ones they are about, and sizes that weights naturally have."""

import math

import numpy as np

from tensometer.rules.group import Array, Group, Key

# Of PyTorch's own layers a weight is uniform in +-1/sqrt(inputs): its root mean square is this over sqrt(inputs).
_UNIFORM = 3**-0.5


def is_trained(key: Key) -> bool:
    """A parameter that is to be trained, as far as is known: some optimizer has it, or none is known."""
    return bool(key.facts.get("requires_grad", True)) and key.facts.get("optimizer", 0) is not None


def is_trained_matrix(key: Key) -> bool:
    """A trained weight of two or more dimensions, but no table of embeddings, of which a step sees a few rows."""
    return len(key.shape) >= 2 and is_trained(key) and "Embedding" not in str(key.facts.get("module_type"))


def natural_rms(key: Key) -> float:
    """The root mean square that a weight of this shape usually begins with."""
    return _UNIFORM / math.sqrt(math.prod(key.shape[1:]) or 1)


def natural_norm(key: Key) -> float:
    """The norm that a weight of this shape usually begins with."""
    return natural_rms(key) * math.sqrt(math.prod(key.shape))


def joined(rows: Group, other: Group, values: Array, missing: float = np.nan) -> Array:
    """For each row the value that a row of another group has of the same tensor; `missing` where there is none."""
    if not len(values):
        return np.full(len(rows), missing)
    places, absent = rows.part.beside(other.part)
    found: Array = values[places]
    if len(absent):
        found[absent] = missing
    return found


def replaced(updates: Group, weights: Group) -> Array:
    """What part of each weight an update has made anew: its norm to the weight's after it.

    A weight counts as no smaller than such weights usually begin: one that begins at zero is not replaced at once.
    """
    return updates["l2"] / joined(updates, weights, np.maximum(weights["l2"], weights.each(natural_norm)))
