"""Floating-point formats that are narrow enough to be left: their largest and smallest numbers, and rows in them."""

from collections.abc import Iterator
from dataclasses import dataclass

from tensometer.rules.group import Group, Key
from tensometer.rules.step import Step


@dataclass(frozen=True)
class Format:
    """A dtype; a call tells whether a row is in it.

    largest: finite number. smallest: above zero. scaled: tensors are brought to the format's range by design.
    """

    dtype: str
    largest: float
    smallest: float
    scaled: bool = False

    def __call__(self, key: Key) -> bool:
        return key.dtype == self.dtype


# bfloat16 has the range of float32, which no training needs.
FORMATS = (
    Format("float16", 65504.0, 2.0**-24),
    Format("float8_e5m2", 57344.0, 2.0**-16, scaled=True),
    Format("float8_e4m3fn", 448.0, 2.0**-9, scaled=True),
)


def narrow(rows: Group) -> Iterator[tuple[Format, Group]]:
    """The rows in each of the formats that there are any in."""
    for one in FORMATS:
        some = rows.where(one)
        if len(some):
            yield one, some


def is_scaled(step: Step) -> bool:
    """Whether a gradient scaler looks after the range of gradients: it skips what overflows."""
    return any(name.endswith("amp_scale") for name in step.scalars("loop"))
