"""Names: of collections, and of rows that say something of a tensor: its own, a slash, and what they say."""

import difflib
from collections.abc import Sequence
from functools import cache

# In the order in which a run shows them.
COLLECTIONS = (
    "weights",
    "biases",
    "gradients",
    "updates",
    "activations",
    "inputs",
    "predictions",
    "labels",
    "optimizer_state",
    "buffers",
    "losses",
    "metrics",
    "loop",
    "custom",
)

# Of tensors with units: the fractions of them that are inactive, constant, or like another, and how far the elements of
# one lie apart: the root of the mean of all units' variances.
UNIT_FACTS = ("inactive_units", "constant_units", "identical_units", "unit_spread")
# Of updates: their size beside the weight's, changed elements, and the cosine with the last one. Each unit by itself.
# Of tokens that go into a model, which share is padding.
SUFFIXES = ("ratio", "changed_fraction", "cosine", "units", "padding", *UNIT_FACTS)


def split_name(name: str) -> tuple[str, str]:
    """The name of the tensor, and what a row says of it: nothing (""), if it is that of the tensor itself."""
    base, slash, suffix = name.rpartition("/")
    return (base, suffix) if slash and suffix in SUFFIXES else (name, "")


@cache
def check_group(group: str) -> None:
    """The name of a group of rows: a collection, or what is said of its tensors. ValueError for any other."""
    collection, slash, suffix = group.partition("/")
    if collection not in COLLECTIONS:
        raise ValueError(unknown(group, COLLECTIONS))
    # Classes are counted in events, which come with labels.
    if slash and suffix not in SUFFIXES and group != "labels/classes":
        raise ValueError(unknown(group, [f"{collection}/{one}" for one in SUFFIXES]))


def unknown(name: str, names: Sequence[str]) -> str:
    """A sentence for a name that is none of these, with the nearest if there is one."""
    nearest = difflib.get_close_matches(name, names, 1)
    return f"{name!r} is unknown{f'; did you mean {nearest[0]!r}?' if nearest else '.'} Known are {', '.join(names)}"
