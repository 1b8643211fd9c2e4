"""Exact references: every sum in whole numbers or fractions, rounded nowhere."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Exact:
    """What a summary of these elements has to say; sums over the finite ones, as fractions."""

    count: int
    zeros: int
    negatives: int
    nan: int
    posinf: int
    neginf: int
    low: Fraction
    high: Fraction
    total: Fraction
    magnitudes: Fraction
    squares: Fraction

    @property
    def finite(self) -> int:
        """How many elements the sums are over."""
        return self.count - self.nan - self.posinf - self.neginf

    @property
    def mean(self) -> Fraction:
        """Of the finite elements; there must be one."""
        return self.total / self.finite

    def variance(self, ddof: int = 0) -> Fraction:
        """Of the finite elements; there must be more than ddof."""
        return (self.squares - self.total * self.total / self.finite) / (self.finite - ddof)


def _terms(x: Array) -> Iterator[tuple[list[int], Fraction]]:
    """Finite elements as whole numbers times a power of two, those of one exponent together."""
    if x.dtype.kind in "biu":
        yield [int(v) for v in x.tolist()], Fraction(1)
        return
    mantissas, exponents = np.frexp(x.astype(np.float64))
    whole = np.ldexp(mantissas, 53).astype(np.int64)
    for exponent in np.unique(exponents).tolist():
        yield whole[exponents == exponent].tolist(), Fraction(2) ** (exponent - 53)


def exact(x: Array) -> Exact:
    """The reference for an array of any real dtype that float64 or Python's integers hold exactly."""
    flat = np.asarray(x).reshape(-1)
    wide = flat if flat.dtype.kind in "biu" else flat.astype(np.float64)
    finite = wide[np.isfinite(wide)]
    total = magnitudes = squares = Fraction(0)
    for numbers, unit in _terms(finite):
        total += sum(numbers) * unit
        magnitudes += sum(map(abs, numbers)) * unit
        squares += sum(v * v for v in numbers) * unit * unit
    return Exact(
        count=flat.size,
        zeros=int((finite == 0).sum()),
        negatives=int((finite < 0).sum()) if finite.dtype.kind != "b" else 0,
        nan=int(np.isnan(wide).sum()),
        posinf=int((np.isinf(wide) & (wide > 0)).sum()) if wide.dtype.kind == "f" else 0,
        neginf=int((np.isinf(wide) & (wide < 0)).sum()) if wide.dtype.kind == "f" else 0,
        low=Fraction(finite.min().item()) if finite.size else Fraction(0),
        high=Fraction(finite.max().item()) if finite.size else Fraction(0),
        total=total,
        magnitudes=magnitudes,
        squares=squares,
    )


def assert_within(found: float, expected: Fraction, bound: Fraction | float, what: str = "") -> None:
    """|found - expected| <= bound, decided in fractions."""
    assert math.isfinite(found), f"{what}: {found}"
    error = abs(Fraction(found) - expected)
    assert error <= Fraction(bound), f"{what}: {found!r} is off by {float(error):.3g}, allowed {float(bound):.3g}"


def assert_relative(found: float, expected: Fraction, bound: float, what: str = "") -> None:
    """As assert_within, as a share of the expected value."""
    assert_within(found, expected, Fraction(bound) * abs(expected), what)


def assert_root(found: float, expected_square: Fraction, bound: float, what: str = "") -> None:
    """As assert_relative for the square root of a fraction: (1 + b)^2 - 1 bounds the error of the square."""
    assert math.isfinite(found), f"{what}: {found}"
    low, high = (1 - Fraction(bound)) ** 2, (1 + Fraction(bound)) ** 2
    square = Fraction(found) ** 2
    assert low * expected_square <= square <= high * expected_square, (
        f"{what}: {found!r} squared is {float(square / (expected_square or 1))} of the reference"
    )
