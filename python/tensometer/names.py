"""Names of rows that say something of a tensor: that of the tensor, a slash, and what they say."""

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
