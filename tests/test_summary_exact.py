"""Every statistic against exact sums, with bounds that follow from the contract.

Let u be the unit roundoff of the lane type (2^-24 for float32 and narrower, 2^-53 otherwise) and R = 9 the additions
that a term goes through before float64 takes over: two within its row of four, seven with the other rows. With pivot
p, a lane adds up terms d = fl(x - p), so with D the sum of |x - p| over a block:

- the sum of d is off by at most u D for the differences and R u D for the additions: 10 u D. By Cauchy and
  Schwarz D <= n s, where s^2 = var + (p - mean)^2, and p lies in the row that the first 128 elements span: for data
  without trend s is close to the standard deviation. The mean is off by at most 10 u s: 6e-7 s for float32.
  Rounding errors of both signs nearly cancel: with independent ones of 0.42 u |partial sum| (uniform errors, mantissas
  spread evenly) the mean of a block is off by less than 0.026 u = 1.6e-9 standard deviations, and
  the mean of a tensor by less. The seeds are fixed, so 1e-8 (more than six of these) holds or does not.
- the sum of d^2 has no cancellation: off by a share of at most (R + 3) u = 12 u (7.2e-7), and with independent
  errors by less than 0.1 u for a block. So is the sum of |x|. Errors that all have one sign come from terms that are
  all alike: sums of two and four of these are exact, and of the seven other additions those to twice and four times as
  much are, too. What is left is 3.1 u at most (by trial of every mantissa's first 18 bits); 2e-7 is 3.4 u.
- a block of one row is reduced in float64, so up to 128 elements are right to about 10 * 2^-53.
- folds and merges are in float64. Chan's update adds terms that are not negative to m2; a merge rounds the mean by
  2^-53 |mean|, and in a tensor of 245 blocks an element's block takes part in less than 70 merges.
"""

import math
from fractions import Fraction

import numpy as np
import pytest
import tensometer
from hypothesis import given
from hypothesis import strategies as st
from references import Exact, assert_relative, assert_root, assert_within, exact
from samples import DTYPES, INTEGER, REAL, STEADY, Array, independent, sample

ADDITIONS = 10
SIZES = (1, 2, 10, 128, 129, 1000, 4096, 4097, 10_000, 100_000, 1_000_000)


def unit_roundoff(name: str) -> float:
    """Of the lanes that a dtype is reduced in; one-byte types are counted exactly and merged in float64."""
    return 2.0**-24 if name in ("float32", "float16", "bfloat16", "int16", "uint16") else 2.0**-53


def check(s: tensometer.Summary, e: Exact, relative: float, mean_bound: Fraction | float) -> None:
    """All statistics at once: sums and norms to a share, the mean to a distance."""
    assert (s.count, s.zeros, s.negatives) == (e.count, e.zeros, e.negatives)
    assert (s.nan, s.posinf, s.neginf, s.nonfinite) == (e.nan, e.posinf, e.neginf, e.nan + e.posinf + e.neginf)
    assert s.zero_fraction == e.zeros / e.count
    assert s.nonfinite_fraction == s.nonfinite / e.count
    assert Fraction(s.min) == e.low
    assert Fraction(s.max) == e.high
    assert Fraction(s.linf) == max(abs(e.low), abs(e.high)) or s.linf == float(max(abs(e.low), abs(e.high)))
    assert_within(s.mean, e.mean, mean_bound, "mean")
    assert_within(s.sum, e.total, Fraction(mean_bound) * e.finite + Fraction(2.0**-52) * abs(e.total), "sum")
    assert_relative(s.var, e.variance(), relative, "var")
    assert_root(s.std, e.variance(), relative, "std")
    if e.finite > 1:
        assert_relative(s.variance(1), e.variance(1), relative, "variance(1)")
    assert_relative(s.l1, e.magnitudes, relative, "l1")
    assert_relative(s.abs_mean, e.magnitudes / e.finite, relative, "abs_mean")
    assert_root(s.l2, e.squares, relative, "l2")
    assert_root(s.rms, e.squares / e.finite, relative, "rms")


def deviation(e: Exact) -> Fraction:
    """The standard deviation, near enough to be part of a bound, also where no float holds the variance."""
    variance = e.variance()
    shift = 100
    return Fraction(
        math.isqrt((variance.numerator * variance.denominator) << (2 * shift)), variance.denominator << shift
    )


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("shift", [0.0, 1.0, 1e4, 1e5, 1e6])
def test_float32_normal_data(size: int, shift: float, rng: np.random.Generator) -> None:
    x = (rng.standard_normal(size) + shift).astype(np.float32)
    e = exact(x)
    # 70 merges and the last roundings, each by 2^-53 of the mean: part of the 1e-8 except where the deviation is 0.
    merges = 70 * 2.0**-53 * abs(float(e.mean))
    bound = 1e-8 * deviation(e) + Fraction(merges)
    check(tensometer.summarize(x), e, 2e-7, bound)
    if size > 10:
        assert bound < 3e-8 * deviation(e)


@pytest.mark.parametrize("first", [1.0, math.sqrt(2.0), 1.3353788])
def test_deviations_of_one_size(first: float, isa: str, rng: np.random.Generator) -> None:
    # Binarised weights: each addition to a lane's sum of squares may round the same way.
    sizes = np.unique((first * (1 + np.arange(4096) / 4096)).astype(np.float32))
    signs = rng.permutation(np.tile(np.float32([1, -1]), 1024))
    rows = tensometer.summarize_units(sizes[:, None] * signs)
    exactly = sizes.astype(np.float64) ** 2  # products of 24 bits fit into 53
    assert np.abs(rows.column("var") / exactly - 1).max() < 2e-7
    assert np.abs(rows.column("mean") / sizes).max() < 1e-8
    assert np.abs(rows.column("l1") / (2048 * sizes.astype(np.float64)) - 1).max() < 2e-7


@pytest.mark.parametrize("scale", [1e-45, 1e-40, 1e-38, 1e-20, 1e-12, 1e12, 1e18, 1e20, 1e37, 3e37])
@pytest.mark.parametrize("size", [5, 1000, 50_000])
def test_float32_norms_near_the_ends_of_the_range(size: int, scale: float, rng: np.random.Generator) -> None:
    x = (rng.standard_normal(size) * scale).astype(np.float32)
    e = exact(x)
    # Quantised sub-normals are not spread evenly, and whole blocks of 0 and 1: worst-case bounds.
    check(tensometer.summarize(x), e, 12 * 2.0**-24, ADDITIONS * 2.0**-24 * 2 * deviation(e))
    if 1e-20 <= scale <= 1e18:
        return
    # The question that this answers: where squares in float32 are inf or 0, the norm is still the norm.
    with np.errstate(over="ignore"):
        squares = np.add.reduce(x * x)
    assert squares in (0.0, np.inf) or 1e-44 < scale < 1e-39 or size == 5
    assert 0 < tensometer.summarize(x).l2 < np.inf or not x.any()


@pytest.mark.parametrize("scale", [1e-320, 1e-300, 1e-160, 1e-150, 1e-137, 1.0, 1e152, 1e155, 1e200, 1e300])
@pytest.mark.parametrize("size", [3, 1000, 20_000])
def test_float64_at_every_scale(size: int, scale: float, rng: np.random.Generator) -> None:
    x = rng.standard_normal(size) * scale
    s, e = tensometer.summarize(x), exact(x)
    # What is not representable is the variance: inf above, a rounded sub-normal below.
    tiny, largest = Fraction(2) ** -1074, Fraction(float(np.finfo(np.float64).max))
    if e.variance() > largest:
        assert s.var == np.inf
    else:
        assert_within(s.var, e.variance(), e.variance() * Fraction(1e-12) + tiny, "var")
    bound = Fraction(1e-12)
    for name, square in (("std", e.variance()), ("l2", e.squares), ("rms", e.squares / e.finite)):
        found = Fraction(getattr(s, name))
        assert (found + tiny) ** 2 >= square * (1 - bound) ** 2, name
        assert max(found - tiny, Fraction(0)) ** 2 <= square * (1 + bound) ** 2, name
    assert_within(s.l1, e.magnitudes, e.magnitudes * bound + tiny, "l1")
    assert_within(s.mean, e.mean, deviation(e) * bound + tiny, "mean")


def test_norms_that_exceed_float64_are_infinite_and_nothing_else() -> None:
    x = np.full(16, 1.5e308)
    s = tensometer.summarize(x)
    assert (s.l1, s.l2, s.sum) == (np.inf, np.inf, np.inf)
    assert (s.mean, s.rms, s.abs_mean, s.linf, s.std) == (1.5e308, 1.5e308, 1.5e308, 1.5e308, 0.0)
    s = tensometer.summarize(np.array([-1.5e308, 1.5e308]))
    assert (s.mean, s.std, s.var, s.l1) == (0.0, 1.5e308, np.inf, np.inf)
    assert_root(s.rms, Fraction(1.5e308) ** 2, 2.0**-52)


@pytest.mark.parametrize("name", REAL)
@pytest.mark.parametrize("size", [7, 300, 20_000])
def test_every_real_dtype(name: str, size: int, rng: np.random.Generator) -> None:
    x = sample(rng, name, size, "normal")
    e = exact(x if DTYPES[name].kind in "biu" else independent(x))
    u = unit_roundoff(name)
    roundoffs = 12 * u + 100 * 2.0**-53
    # Integers below 2^63 are rounded to float64 once, before anything else: twice their own share.
    spread = float(e.squares / e.finite) ** 0.5
    check(tensometer.summarize(x), e, 2 * roundoffs, ADDITIONS * u * spread + 100 * 2.0**-53 * spread)


def test_adversarial_order_stays_within_the_worst_case(rng: np.random.Generator) -> None:
    # Sorted data: the first row is the lowest, so the pivot is 1.7 deviations off, and partial sums grow all the way.
    x = np.sort(rng.random(4096, np.float32))
    e = exact(x)
    pivot_offset = Fraction(float(x[:128].mean())) - e.mean
    spread = Fraction(float(e.variance() + pivot_offset**2) ** 0.5)
    # m2 = sum d^2 - (sum d)^2 / n: the second term is kappa - 1 times the variance, and both carry their errors.
    kappa = float((e.variance() + pivot_offset**2) / e.variance())
    s = tensometer.summarize(x)
    assert_within(s.mean, e.mean, ADDITIONS * Fraction(2.0**-24) * spread)
    assert_relative(s.var, e.variance(), (12 * kappa + 2 * ADDITIONS * kappa) * 2.0**-24)


def test_an_outlier_in_the_first_row(rng: np.random.Generator) -> None:
    x = rng.standard_normal(4096).astype(np.float32)
    x[5] = 1e6
    e = exact(x)
    # The pivot is 1e6 / 128, the deviation 1e6 / 64: kappa is 1.25.
    s = tensometer.summarize(x)
    assert_within(s.mean, e.mean, ADDITIONS * Fraction(2.0**-24) * deviation(e) * Fraction(5, 4))
    assert_relative(s.var, e.variance(), (12 + 2 * ADDITIONS) * 1.25 * 2.0**-24)


@pytest.mark.parametrize("name", INTEGER)
def test_integer_extremes_are_exact_python_integers(name: str) -> None:
    info = (0, 1) if name == "bool" else (np.iinfo(name).min, np.iinfo(name).max)
    for size in (1, 100, 5000):
        for fill in info:
            x = np.full(size, fill, DTYPES[name])
            s = tensometer.summarize(x)
            assert (s.min, s.max) == (int(fill), int(fill))
            assert (type(s.min), type(s.max)) == (int, int)
    both = np.zeros(5000, DTYPES[name])
    both[17], both[4711] = info
    s = tensometer.summarize(both)
    assert (s.min, s.max) == info
    assert s.negatives == int(info[0] < 0)


@pytest.mark.parametrize(("name", "near"), [("int64", 2**62), ("int64", -(2**62)), ("uint64", 2**63), ("uint64", 3)])
def test_64_bit_neighbours_are_told_apart(name: str, near: int) -> None:
    x = np.array([near, near + 1, near + 2], DTYPES[name])
    s = tensometer.summarize(x)
    assert (s.min, s.max) == (near, near + 2)
    assert tensometer.summarize(x[1:]).min == near + 1
    assert s.merge(tensometer.summarize(x[:1] - x.dtype.type(1))).min == near - 1


@pytest.mark.parametrize("name", [name for name in INTEGER if DTYPES[name].itemsize == 1])
def test_sums_of_one_byte_integers_are_exact(name: str, rng: np.random.Generator) -> None:
    x = sample(rng, name, 100_003, "normal")
    e, s = exact(x), tensometer.summarize(x)
    assert s.l1 == e.magnitudes
    # mean is rounded once more than the sum, sum = mean * n twice.
    assert_relative(s.mean, e.mean, 2.0**-53)
    assert_relative(s.sum, e.total, 2.0**-52)


@pytest.mark.parametrize("name", DTYPES)
@pytest.mark.parametrize("shape", [(0,), (0, 7), (3, 0, 2)])
def test_empty(name: str, shape: tuple[int, ...]) -> None:
    s = tensometer.summarize(np.empty(shape, DTYPES[name]), histogram=True)
    assert s.shape == shape
    for field in ("count", "zeros", "negatives", "nan", "posinf", "neginf", "nonfinite", "sum", "l1", "l2", "linf"):
        assert getattr(s, field) == 0, field
    for field in ("min", "max", "mean", "var", "std", "rms", "abs_mean", "zero_fraction", "nonfinite_fraction"):
        assert np.isnan(getattr(s, field)), field
    assert np.isnan(s.variance(1))
    assert np.isnan(s.quantile(0.5))
    assert s.histogram is not None
    assert s.histogram.total == 0


@pytest.mark.parametrize("name", [name for name in DTYPES if "float" in name and not name.endswith("fn")])
def test_nothing_finite(name: str) -> None:
    for size in (1, 128, 5000):
        s = tensometer.summarize(np.full(size, np.nan).astype(DTYPES[name]), histogram=True)
        assert (s.count, s.nan, s.nonfinite, s.nonfinite_fraction) == (size, size, size, 1.0)
        assert (s.sum, s.l1, s.l2, s.linf) == (0, 0, 0, 0)
        assert all(np.isnan(v) for v in (s.min, s.max, s.mean, s.var, s.std, s.rms, s.abs_mean, s.quantile(0.5)))


@pytest.mark.parametrize("value", [0.1, -3.7, 1e-45, 3.4e38, 123456.789, 7.0])
@pytest.mark.parametrize("size", [1, 2, 3, 127, 129, 4095, 100_001])
def test_equal_elements(value: float, size: int) -> None:
    x = np.full(size, value, np.float32)
    s, exactly = tensometer.summarize(x), float(x[0])
    assert (s.mean, s.min, s.max, s.var, s.std) == (exactly, exactly, exactly, 0.0, 0.0)
    assert s.rms == pytest.approx(abs(exactly), rel=2.0**-50)  # a square and a root in float64


@pytest.mark.parametrize("size", [1, 2, 5, 127, 128, 129, 130, 1000, 4096, 9001])
@pytest.mark.parametrize("name", ["float64", "float32", "float16", "bfloat16", "float8_e4m3fn", "float8_e5m2"])
def test_zero_extremes_are_positive(name: str, size: int, isa: str, rng: np.random.Generator) -> None:
    zeros = np.where(rng.random(size) < 0.5, 0.0, -0.0)
    for x in (zeros, np.full(size, -0.0), np.append(zeros, 1.0), np.append(zeros, -1.0)):
        s = tensometer.summarize(x.astype(DTYPES[name]))
        assert s.zeros == size
        for found in (s.min, s.max):
            assert found or not np.signbit(found)
        if s.count == s.zeros:
            assert not np.signbit([s.mean, s.sum, s.var, s.l1, s.l2]).any()


def test_one_element() -> None:
    s = tensometer.summarize(np.float32(-2.5))
    assert (s.shape, s.count, s.min, s.max, s.mean, s.sum) == ((), 1, -2.5, -2.5, -2.5, -2.5)
    assert (s.l1, s.l2, s.linf, s.rms, s.abs_mean) == (2.5, 2.5, 2.5, 2.5, 2.5)
    assert (s.var, s.std) == (0.0, 0.0)
    assert np.isnan(s.variance(1))


def test_ddof_as_in_numpy(rng: np.random.Generator) -> None:
    x = rng.standard_normal(1000)
    s = tensometer.summarize(x)
    for ddof in (0, 1, 2, 999):
        assert_relative(s.variance(ddof), exact(x).variance(ddof), 1e-13)
    assert np.isnan(s.variance(1000))
    assert np.isnan(s.variance(1001))
    assert s.variance() == s.var


@STEADY
@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1, max_size=300))
def test_any_float32_data(values: list[float]) -> None:
    x: Array = np.array(values, np.float32)
    e, s = exact(x), tensometer.summarize(x)
    u = 2.0**-24 if x.size > 128 else 2.0**-53
    largest = max(abs(e.low), abs(e.high))
    # |x - p| is at most twice the largest magnitude; scaling may lose what lies 2^-149 below it.
    assert_within(s.mean, e.mean, (2 * ADDITIONS * u + 2.0**-45) * largest + Fraction(2) ** -149)
    assert_relative(s.l1, e.magnitudes, 40 * u + 2.0**-45)
    assert_root(s.l2, e.squares, 2 * (12 + 2 * ADDITIONS) * u + 2.0**-45)
