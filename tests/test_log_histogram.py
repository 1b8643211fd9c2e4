"""The logarithmic histogram against counts of bit patterns, its quantiles, and what a narrower format would lose."""

import math
import pickle
from collections import Counter
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import tensometer
from hypothesis import given
from hypothesis import strategies as st
from samples import DTYPES, REAL, STEADY, independent, sample

Array = np.ndarray[Any, np.dtype[Any]]
FORMATS = [name for name in DTYPES if "float" in name and name != "float64"]


def histogram(x: Array, **options: Any) -> tensometer.LogHistogram:
    found = tensometer.summarize(x, histogram=True, **options).histogram
    assert found is not None
    return found


def counted(x: Array, resolution: int) -> tuple[list[int], list[int]]:
    """Numbers of bins and their counts, by the top bits of the float32 pattern, ordered by value.

    A float64 is cut, not rounded, to float32's mantissa, and to float32's range.
    """
    value = independent(x).reshape(-1)
    value = value[np.isfinite(value)]
    largest = float(np.finfo(np.float32).max)
    size = np.minimum(np.abs(value), largest)
    narrow = size.astype(np.float32)
    narrow = np.where(narrow.astype(np.float64) > size, np.nextafter(narrow, np.float32(0)), narrow)
    index = narrow.view(np.uint32).astype(np.int64) >> (23 - resolution)
    half = 1 << (8 + resolution)
    bins, counts = np.unique(np.where(np.signbit(value), half - 1 - index, half + index), return_counts=True)
    return bins.tolist(), counts.tolist()


@pytest.mark.parametrize("kind", ["normal", "bits", "huge", "tiny", "holes"])
@pytest.mark.parametrize("name", REAL)
def test_counts(name: str, kind: str, isa: str, rng: np.random.Generator) -> None:
    x = sample(rng, name, 9001, kind)
    for resolution in range(8):
        h = histogram(x, resolution=resolution)
        assert (h.bins.tolist(), h.counts.tolist()) == counted(x, resolution)
        assert (h.resolution, h.total, h.sampled) == (resolution, int(np.isfinite(independent(x)).sum()), False)


@pytest.mark.parametrize("name", ["complex64", "complex128"])
def test_complex_magnitudes(name: str, rng: np.random.Generator) -> None:
    x = sample(rng, name, 5000)
    sizes = np.hypot(x.real.astype(np.float64), x.imag.astype(np.float64))
    assert sum(histogram(x).counts) == 5000
    assert histogram(x).quantile(0.5) == pytest.approx(float(np.median(sizes)), rel=1 / 64)


@pytest.mark.parametrize("resolution", range(8))
def test_edges(resolution: int, rng: np.random.Generator) -> None:
    """Bins touch where both are listed, and each element lies between the edges of its own."""
    x = np.unique(np.concatenate([sample(rng, "float32", 4000, kind) for kind in ("normal", "huge", "tiny")]))
    h = histogram(x, resolution=resolution)
    assert h.edges.shape == (len(h.counts), 2)
    assert (h.edges[:, 0] < h.edges[:, 1]).all()
    assert (h.edges[1:, 0] >= h.edges[:-1, 1]).all()
    assert (np.diff(h.bins.astype(np.int64)) > 0).all()
    element = np.repeat(np.arange(len(h.counts)), h.counts.astype(np.int64))
    lower, upper = h.edges[element].T
    positive = ~np.signbit(x)
    assert np.where(positive, (lower <= x) & (x < upper), (lower < x) & (x <= upper)).all()


DISTRIBUTIONS = {
    "normal": lambda rng: rng.standard_normal(30_001),
    "shifted": lambda rng: rng.standard_normal(30_001) * 0.1 + 5,
    "uniform": lambda rng: rng.random(30_001) - 0.3,
    "log-normal": lambda rng: np.exp(3 * rng.standard_normal(30_001)),
    "cauchy": lambda rng: rng.standard_cauchy(30_001),
    "relu": lambda rng: np.maximum(rng.standard_normal(30_001), 0),
    "integers": lambda rng: rng.integers(-300, 300, 30_001),
    "constant": lambda rng: np.full(30_001, -0.7),
}


@pytest.mark.parametrize("x", DISTRIBUTIONS.values(), ids=DISTRIBUTIONS)
@pytest.mark.parametrize("resolution", [3, 6, 7])
def test_quantiles(x: Any, resolution: int, rng: np.random.Generator) -> None:
    values = np.sort(x(rng).astype(np.float32))
    s = tensometer.summarize(values, histogram=True, resolution=resolution)
    for q in (0, 1e-4, 0.01, 0.25, 0.5, 0.75, 0.9, 0.999, 1):
        exact = float(values[math.floor(q * (values.size - 1))])
        assert abs(s.quantile(q) - exact) <= abs(exact) * 2.0 ** -(resolution + 1), q
    assert (s.quantile(0), s.quantile(1)) == (s.min, s.max)


def test_quantiles_of_nothing_and_wrong_ones() -> None:
    for x in (np.zeros(0), np.full(3, np.nan)):
        assert math.isnan(tensometer.summarize(x, histogram=True).quantile(0.5))
        assert math.isnan(histogram(x).quantile(0.5))
    s = tensometer.summarize(np.ones(3), histogram=True)
    for q in (-0.1, 1.1, math.nan, math.inf):
        with pytest.raises(ValueError, match=r"q: .* is not between 0 and 1"):
            s.quantile(q)
    with pytest.raises(ValueError, match="histogram: this summary has none"):
        tensometer.summarize(np.ones(3)).quantile(0.5)


@STEADY
@given(st.integers(0, 7), st.integers(0, 7), st.integers(0, 10_000), st.sampled_from(REAL))
def test_merge_and_coarsen(fine: int, coarse: int, size: int, name: str) -> None:
    coarse, fine = sorted((coarse, fine))
    x = sample(np.random.default_rng(size), name, size, "holes")
    a, b = histogram(x[: size // 3], resolution=fine), histogram(x[size // 3 :], resolution=fine)
    whole = histogram(x, resolution=fine)
    assert a.merge(b) == whole == b.merge(a)
    assert whole.coarsen(coarse) == histogram(x, resolution=coarse)
    assert a.merge(b.coarsen(coarse)) == histogram(x, resolution=coarse)
    if coarse < fine:
        with pytest.raises(ValueError, match="is finer than this histogram's"):
            whole.coarsen(coarse).coarsen(fine)


def test_to_uniform(rng: np.random.Generator) -> None:
    x = rng.standard_normal(100_000).astype(np.float32)
    h = histogram(x)
    edges = np.linspace(-6, 6, 49)
    estimate, exact = h.to_uniform(edges), np.histogram(x, edges)[0]
    assert estimate.dtype == np.float64
    assert estimate.sum() == pytest.approx(x.size, rel=1e-12)
    assert np.abs(estimate - exact).sum() < 0.01 * x.size
    powers = np.array([-4.0, -2, -1, -0.5, 0.5, 1, 2, 4])  # edges of bins: exact, but for elements that lie on them
    assert h.to_uniform(powers).tolist() == np.histogram(x, powers)[0].tolist()
    for wrong in ([1.0], [2.0, 1.0], [1.0, 1.0], [0.0, math.nan], []):
        with pytest.raises(ValueError, match="edges"):
            h.to_uniform(wrong)


@pytest.mark.parametrize("target", FORMATS)
@pytest.mark.parametrize("name", ["float32", "float16", "bfloat16"])
def test_what_a_format_loses(name: str, target: str, rng: np.random.Generator) -> None:
    """Against real casts. Thresholds are the edges of bins wherever float32 is normal, ties included."""
    info = ml_dtypes.finfo(DTYPES[target])  # type: ignore[no-untyped-call]
    tiny, normal = float(info.smallest_subnormal), float(info.smallest_normal)
    near = np.array([tiny / 2, tiny / 4, tiny, tiny * 0.75, normal, normal / 2, 1.0, 0.0, float(info.max)])
    spread = np.exp2(rng.uniform(-40, 15, 5000)) * rng.choice([-1, 1], 5000)
    with np.errstate(over="ignore"):
        x = np.concatenate([near, np.nextafter(near, 0), np.nextafter(near, 9e9), spread]).astype(DTYPES[name])
    value = independent(x)
    value = value[np.isfinite(value)]
    x = value.astype(DTYPES[name])
    with np.errstate(over="ignore"):
        cast = independent(value.astype(np.float32).astype(DTYPES[target]))
    size = np.abs(value)
    s = tensometer.summarize(x, histogram=True)
    if tiny >= 2.0**-120:  # bfloat16's and float32's own lie among the sub-normals of float32, in wider bins
        lost = int(((size != 0) & ((cast == 0) & (size != tiny / 2))).sum())
        ties = int((size == tiny / 2).sum())
        assert s.underflow(target) == lost
        assert s.subnormal(target) == int(((size >= tiny / 2) & (size < normal)).sum()) >= ties
    beyond = int((~np.isfinite(cast)).sum())
    if target.startswith("float8"):
        tie = 464 if target == "float8_e4m3fn" and beyond else math.nan  # stays, but shares its bin with what does not
        assert s.overflow(target) == beyond + int((size == tie).sum())
    else:
        assert (s.overflow(target) > 0) == (beyond > 0)
        assert s.overflow(target) <= beyond
    assert s.headroom(target) == float(info.max) / s.linf


def test_headroom() -> None:
    s = tensometer.summarize(np.array([3.0, -6.0], np.float16), histogram=True)
    assert s.headroom() == 65504 / 6
    assert tensometer.summarize(np.zeros(3)).headroom() == math.inf
    assert math.isnan(tensometer.summarize(np.zeros(0)).headroom())
    for wrong in ("float7", "int8", ""):
        with pytest.raises(ValueError, match=f"dtype: '{wrong}' is not a floating-point format; known are float64"):
            s.headroom(wrong)
        with pytest.raises(ValueError, match="dtype: "):
            s.underflow(wrong)


@pytest.mark.parametrize("name", ["float32", "bfloat16", "int8"])
def test_sampling(name: str, isa: str, rng: np.random.Generator) -> None:
    """Few blocks are all counted; of many a part stands for all."""
    x = sample(rng, name, 1 << 21)
    few = x[: 1 << 16]
    assert tensometer.summarize(few, histogram="sampled") == tensometer.summarize(few, histogram=True)
    s = tensometer.summarize(x, histogram="sampled")
    h = s.histogram
    assert h is not None
    assert h.sampled == (name != "int8")  # one-byte types count every value anyway
    assert abs(h.total - x.size) < 0.05 * x.size
    for q in (0.1, 0.5, 0.9):
        exact = tensometer.summarize(x, histogram=True).quantile(q)
        assert s.quantile(q) == pytest.approx(exact, rel=0.03, abs=0.01)


def test_text() -> None:
    assert repr(histogram(np.array([1.0, 1.0, 2.0]))) == "LogHistogram(bins=2, total=3, resolution=6)"
    assert histogram(np.ones(3)) != "LogHistogram"


@pytest.mark.parametrize("resolution", [0, 3, 7])
def test_values_on_and_beside_every_edge(resolution: int, isa: str) -> None:
    patterns = np.arange(0, 255 << resolution, dtype=np.uint32) << np.uint32(23 - resolution)
    beside = np.concatenate([patterns, patterns[1:] - np.uint32(1), patterns + np.uint32(1)])
    narrow = np.concatenate([beside, beside | np.uint32(1 << 31)]).view(np.float32)
    wide = narrow.astype(np.float64)
    for x in (narrow, wide, np.nextafter(wide, 0.0), np.nextafter(wide, np.inf)):
        h = histogram(x, resolution=resolution)
        assert (h.bins.tolist(), h.counts.tolist()) == counted(x, resolution)


def test_float64_beyond_float32_is_in_the_outermost_bins() -> None:
    x = np.array([5e-324, -1e-310, 1e-46, 2.0**-149, 2.0**128, 1.7e308, -1.7e308, 3.5e38, 0.0, -0.0, np.nan, np.inf])
    for resolution in range(8):
        h = histogram(x, resolution=resolution)
        assert (h.bins.tolist(), h.counts.tolist()) == counted(x, resolution)
        assert (h.edges.min(), h.edges.max()) == (-(2.0**128), 2.0**128)


def shared_out(h: tensometer.LogHistogram, edges: Array) -> Array:
    """The rule of to_uniform in NumPy: a bin that an edge cuts is shared out by length, zeros are where zero is."""
    result = np.zeros(len(edges) - 1)
    half = 1 << (8 + h.resolution)
    for number, count, (low, high) in zip(h.bins.tolist(), h.counts.tolist(), h.edges.tolist(), strict=True):
        if number in (half, half - 1):
            at = int(np.searchsorted(edges, 0.0, "right")) - int(edges[-1] == 0.0)
            if 0 < at < len(edges):
                result[at - 1] += count
        else:
            inside = np.clip(np.minimum(high, edges[1:]) - np.maximum(low, edges[:-1]), 0, None)
            result += count * (inside / (high - low))
    return result


@pytest.mark.parametrize("x", DISTRIBUTIONS.values(), ids=DISTRIBUTIONS)
@pytest.mark.parametrize("resolution", [0, 6])
def test_cut_bins_are_shared_out_by_length(x: Any, resolution: int, rng: np.random.Generator) -> None:
    h = histogram(x(rng).astype(np.float32), resolution=resolution)
    for edges in (
        np.linspace(-3, 3, 31),
        np.array([-1e300, 1e300]),
        np.array([-np.inf, -1.0, 0.0, 1.0, np.inf]),
        np.sort(rng.standard_normal(50)),
        np.array([-1.0, 0.0]),
        np.array([1.0, 1.0000001]),
    ):
        # Sums of fewer than 2^12 terms, none negative, each with a few roundings of its own.
        np.testing.assert_allclose(h.to_uniform(edges), shared_out(h, edges), rtol=2.0**-40, atol=0)
    assert h.to_uniform([-1e300, 1e300]).tolist() == [h.total]


def test_results_are_copies() -> None:
    a, b = histogram(np.arange(100.0)), histogram(np.arange(50.0), resolution=3)
    before = (a.bins.tolist(), a.counts.tolist(), b.bins.tolist(), b.counts.tolist())
    a.merge(b)
    a.coarsen(0)
    for column in (a.counts, a.bins, a.edges):
        column[:] = 0
    assert (a.bins.tolist(), a.counts.tolist(), b.bins.tolist(), b.counts.tolist()) == before


WHOLE, BLOCK = 16 * 4096, 4096  # elements that "sampled" counts whole; elements of a block


def times_counted(block: int) -> int:
    """How often "sampled" counts a block: one in 2, 4 or 8, by the top bits of the index over the golden ratio."""
    rarity = 0 if block < 16 else 1 if block < 32 else 2 if block < 64 else 3
    return 2**rarity if (block * 0x9E3779B97F4A7C15) % 2**64 < 2 ** (64 - rarity) else 0


@pytest.mark.parametrize("name", ["float32", "float64", "int16"])
@pytest.mark.parametrize("blocks", [17, 40, 64, 364])
def test_which_blocks_a_sample_counts(name: str, blocks: int, isa: str, rng: np.random.Generator) -> None:
    x = sample(rng, name, blocks * BLOCK - 777)
    s = tensometer.summarize(x, histogram="sampled")
    h = s.histogram
    assert h is not None
    expected: Counter[int] = Counter()
    for block in range(blocks):
        for number, count in zip(*counted(x[block * BLOCK : (block + 1) * BLOCK], 6), strict=True):
            expected[number] += times_counted(block) * count
    assert dict(zip(h.bins.tolist(), h.counts.tolist(), strict=True)) == {n: c for n, c in expected.items() if c}
    # No block stands for more than an eighth of what lies before it, and they are spread evenly.
    assert abs(h.total - x.size) <= max(0.125 * x.size, 3 * 8 * BLOCK)
    assert s.to_dict() == tensometer.summarize(x).to_dict()
    pieces = tensometer.Accumulator(histogram="sampled")
    for at in range(0, x.size, 100_003):
        pieces.update(x[at : at + 100_003])
    assert pieces.summary() == s == tensometer.summarize(x, histogram="sampled", threads=3)


@pytest.mark.parametrize("period", [2, 3, 8, 16, 64])
def test_sampling_is_in_step_with_no_period(period: int) -> None:
    x = np.repeat(np.arange(64 + 768) % period, BLOCK).astype(np.int16)
    h, whole = (tensometer.summarize(x, histogram=mode, resolution=7).histogram for mode in ("sampled", True))
    assert h is not None
    assert whole is not None
    counts = dict(zip(h.bins.tolist(), h.counts.tolist(), strict=True))
    for number, count in zip(whole.bins.tolist(), whole.counts.tolist(), strict=True):
        # Within three of those counted eight times, and two of those counted four times and twice.
        assert abs(counts.get(number, 0) - count) <= (3 * 8 + 2 * 4 + 2 * 2) * BLOCK


def test_a_sample_stays_one() -> None:
    large, small = (
        tensometer.summarize(np.ones(size, np.float32), histogram="sampled").histogram for size in (2 * WHOLE, 10)
    )
    assert large is not None
    assert small is not None
    assert [h.sampled for h in (large, large.coarsen(2), large.merge(small), small.merge(large))] == [True] * 4
    assert not small.sampled


def test_edges_of_two_dimensions_are_refused() -> None:
    with pytest.raises((TypeError, ValueError), match="edges"):
        histogram(np.ones(3)).to_uniform([[0.0, 1.0], [2.0, 3.0]])


@pytest.mark.parametrize("target", ["float32", "bfloat16"])
def test_beyond_the_range_of_the_bins(target: str) -> None:
    # The outermost bins hold everything beyond, so a number is a bound, unless the extremes tell more.
    def of(*values: float) -> tensometer.Summary:
        return tensometer.summarize(np.array(values), histogram=True)

    assert of(1e300, -1e300, 1e39, 2.0**128, 1.0).overflow(target) == 1
    assert of(*[1e300] * 5).overflow(target) == of(*[-1e300] * 5).overflow(target) == 5
    assert of(1.0, 3.3e38).overflow(target) == 0
    assert of(1e-60, -1e-60, 0.0).underflow(target) == 2
    assert of(1e-60, 1.0, 0.0).underflow(target) == 0
    assert of(1e-39, 1.0, 0.0).subnormal(target) == 1


def test_estimates_of_a_sample_are_never_negative() -> None:
    x = np.full(3 << 20, 2.0**-20, np.float32)
    x[::2] = 2.0**-27
    s = tensometer.summarize(x, histogram="sampled")
    assert 0 <= s.subnormal("float16") <= x.size
    assert 0 <= s.underflow("float16") <= x.size
    assert tensometer.summarize(x * np.float32(2**-10), histogram="sampled").subnormal("float16") == 0


def test_a_tie_that_rounds_down_counts_only_with_others() -> None:
    # 464 lies halfway between 448, which is even, and 480; what is a little larger shares its bin.
    s = tensometer.summarize(np.array([464.0, 500.0, -464.0], np.float32), histogram=True)
    assert s.overflow("float8_e4m3fn") == 3
    assert tensometer.summarize(np.array([463.9, 465.0]), histogram=True).overflow("float8_e4m3fn") == 1
    assert tensometer.summarize(np.array([464.0, -464.0]), histogram=True).overflow("float8_e4m3fn") == 0


def test_pickles(rng: np.random.Generator) -> None:
    for x in (rng.standard_normal(10_000), np.zeros(0), np.ones(3 << 18, np.float32)):
        for h in (histogram(x), histogram(x, resolution=0), tensometer.summarize(x, histogram="sampled").histogram):
            again = pickle.loads(pickle.dumps(h))
            assert again == h
            assert again.sampled == h.sampled  # type: ignore[union-attr]
    state = histogram(np.arange(9.0)).__getstate__()
    for garbage in (b"", state[:-1], state + b"x", state[:4] + b"\xff" * (len(state) - 4)):
        with pytest.raises(ValueError, match="state"):
            tensometer.LogHistogram.__new__(tensometer.LogHistogram).__setstate__(garbage)
