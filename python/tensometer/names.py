"""Names of rows that say something of a tensor: that of the tensor, a slash, and what they say."""

# Of updates: their size beside the weight's, changed elements, and the cosine with the last one. Of tensors with units:
# each unit, and the fractions of units that are inactive, constant, or like another.
SUFFIXES = ("ratio", "changed_fraction", "cosine", "units", "inactive_units", "constant_units", "identical_units")


def split_name(name: str) -> tuple[str, str]:
    """The name of the tensor, and what a row says of it: nothing (""), if it is that of the tensor itself."""
    base, slash, suffix = name.rpartition("/")
    return (base, suffix) if slash and suffix in SUFFIXES else (name, "")
