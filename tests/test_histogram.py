"""Uniform histograms: count for count and edge for edge what numpy.histogram returns.

Two references, both met with ==: numpy.histogram itself, and the definition (bin i is edges[i] <= x < edges[i + 1], the
last bin closed), counted by bisection in the edges. The second also judges where NumPy refuses: NaN and infinities.
"""

from typing import Any

import numpy as np
import pytest
import tensometer
import torch
from hypothesis import given
from hypothesis import strategies as st
from samples import DTYPES, INTEGER, KINDS, REAL, STEADY, Array, independent, sample

NATIVE = [name for name in REAL if not name.startswith(("bfloat16", "float8"))]
# bool and the types that NumPy lacks are counted between the edges of their values: uint8 and float64 hold them.
STAND_IN = {"bool": "uint8"} | {name: "float64" for name in REAL if name not in NATIVE}
EPSILON = {"float16": 2.0**-10, "float32": 2.0**-23, "float64": 2.0**-52}


def stand_in(x: Array) -> Array:
    """The same values in a dtype for which numpy.histogram is defined."""
    return x.astype(STAND_IN.get(x.dtype.name, x.dtype))


def assert_as_numpy(x: Array, *arguments: Any, expected: tuple[Array, Array] | None = None, **options: Any) -> None:
    """Counts, edges and their dtypes against numpy.histogram."""
    counts, edges = np.histogram(stand_in(x), *arguments) if expected is None else expected
    found = tensometer.histogram(x, *arguments, **options)
    assert found.counts.dtype == np.int64
    assert found.counts.tolist() == counts.tolist()
    assert found.edges.dtype == edges.dtype
    assert np.array_equal(found.edges, edges)


def counted(x: Array, edges: Array) -> list[int]:
    """The definition: NaN and what lies outside the edges is not counted."""
    values = independent(x).reshape(-1)
    values = values[(values >= edges[0]) & (values <= edges[-1])]
    bins = np.minimum(np.searchsorted(edges, values, "right"), len(edges) - 1) - 1
    counts: list[int] = np.bincount(bins, minlength=len(edges) - 1).tolist()
    return counts


@pytest.mark.parametrize("bins", [1, 2, 7, 64, 65, 1000])
@pytest.mark.parametrize("name", NATIVE)
def test_default_range(name: str, bins: int, isa: str, rng: np.random.Generator) -> None:
    for size in (1, 2, 129, 4097, 70_001):
        for kind in ("normal", "tiny", "constant", "shifted"):
            x = sample(rng, name, size, kind)
            try:
                expected = np.histogram(stand_in(x), bins)
            except ValueError:  # more bins than values between the extremes
                with pytest.raises(ValueError, match="bins"):
                    tensometer.histogram(x, bins)
                continue
            found = tensometer.histogram(x, bins)
            assert np.array_equal(found.edges, expected[1])
            assert found.counts.tolist() == counted(x, expected[1].astype(np.float64))
            # Edges among sub-normals are so uneven that NumPy's one step of correction may not reach the bin.
            if kind != "tiny" or name not in EPSILON:
                assert found.counts.tolist() == expected[0].tolist()


@pytest.mark.parametrize("name", [name for name in REAL if name not in NATIVE])
def test_dtypes_that_numpy_lacks(name: str, isa: str, rng: np.random.Generator) -> None:
    for size in (1, 300, 70_001):
        x = sample(rng, name, size, "normal")
        assert_as_numpy(x, 50)
        assert_as_numpy(x, 50, (-1.5, 2.0))
        assert_as_numpy(x, np.linspace(-1, 1, 33))


@pytest.mark.parametrize("name", REAL)
def test_given_range(name: str, isa: str, rng: np.random.Generator) -> None:
    x = sample(rng, name, 70_001, "normal")
    for pair in ((-1.0, 1.0), (0.1, 0.3), (-2.5, 0.0), (0, 1), (-100, 100), (50.0, 60.0), (0.25, 0.25), (-1e-3, 1e-3)):
        assert_as_numpy(x, 20, pair)
        assert_as_numpy(x, 20, np.array(pair))
        assert_as_numpy(x, 64, list(pair))
    assert tensometer.histogram(x, range=(0.0, 1.0)).counts.shape == (64,)


@pytest.mark.parametrize("name", REAL)
def test_given_edges(name: str, isa: str, rng: np.random.Generator) -> None:
    x = sample(rng, name, 70_001, "normal")
    log = np.logspace(-6, 2, 40)
    for edges in (
        np.linspace(-2, 2, 41),
        np.linspace(-0.3, 0.7, 65).astype(np.float32),
        np.concatenate([-log[::-1], [0.0], log]),
        np.array([-np.inf, -1.0, 0.0, 1.0, np.inf]),
        np.array([0.0, 0.0, 1.0, 1.0, 1.0]),
        np.array([0.5, 0.5]),
        np.array([1e300, 1e301]),
        np.sort(rng.standard_normal(300)),
        np.array([-3, 0, 1, 100]),
        np.sort(rng.standard_normal(200))[::2],
    ):
        assert_as_numpy(x, edges)
        assert_as_numpy(x, edges.tolist(), expected=np.histogram(stand_in(x), edges.tolist()))
        assert tensometer.histogram(x, edges).counts.tolist() == counted(x, edges.astype(np.float64))
    assert_as_numpy(x, range(-3, 4))
    assert_as_numpy(x, (-1, 0.5, 3))


@pytest.mark.parametrize("name", ["float16", "float32", "float64"])
def test_huge_and_denormal_ranges(name: str, isa: str, rng: np.random.Generator) -> None:
    largest, smallest = (float(getattr(np.finfo(name), key)) for key in ("max", "smallest_subnormal"))
    half = (rng.random(5000) - 0.5).astype(name) * np.dtype(name).type(0.99 * largest)
    assert_as_numpy(half, 37)
    tiny = (rng.integers(-400, 400, 5000) * smallest).astype(name)
    assert_as_numpy(tiny, 50)
    assert_as_numpy(tiny, 10, (-50 * smallest, 50 * smallest))
    mixed = np.concatenate([half, tiny])
    assert_as_numpy(mixed, 64)
    assert_as_numpy(mixed, np.unique(np.concatenate([half[::50], tiny[::50]])))
    # The width of the whole range is beyond the dtype: NumPy has no edges for it.
    whole = np.array([-largest, 0, largest], name)
    with np.errstate(over="ignore", invalid="ignore"), pytest.raises(ValueError, match="bins"):
        tensometer.histogram(whole, 4)
    edges = np.array([-largest, 0, largest], name)
    assert tensometer.histogram(whole, edges).counts.tolist() == [1, 2]


@pytest.mark.parametrize("name", ["float32", "float64", "int32"])
def test_a_million_bins(name: str, rng: np.random.Generator) -> None:
    x = (rng.random(30_000) * 1e7).astype(name)
    assert_as_numpy(x, 10**6)
    assert_as_numpy(x, np.unique(rng.random(10**5) * 1e7))


def test_more_bins_than_floats_between() -> None:
    x = np.array([1, 1 + 2.0**-23], np.float32)
    assert_as_numpy(x, 1)
    for bins in (2, 10**6):
        with pytest.raises(ValueError, match="bins"):
            tensometer.histogram(x, bins)


@pytest.mark.parametrize("name", ["float16", "float32", "float64", "bfloat16"])
@pytest.mark.parametrize("bins", [3, 10, 64, 65, 257])
def test_values_on_and_beside_every_edge(name: str, bins: int, isa: str, rng: np.random.Generator) -> None:
    for low, high in ((0.0, 1.0), (-1.0, 1.0), (0.1, 0.7), (-3.0, 5.0), (100.0, 356.0)):
        edges = np.histogram_bin_edges(np.empty(0, STAND_IN.get(name, name)), bins, (low, high))
        near = edges.astype(DTYPES[name])
        steps = [near]
        if name in EPSILON:
            steps += [np.nextafter(near, near.dtype.type(side)) for side in (-np.inf, np.inf)]
        x = np.tile(np.concatenate(steps), 200)
        rng.shuffle(x)
        assert_as_numpy(x, bins, (low, high))
        assert_as_numpy(x, edges)
        assert tensometer.histogram(x, edges).counts.tolist() == counted(x, edges.astype(np.float64))


@st.composite
def near_edges(draw: st.DrawFn, name: str) -> tuple[Array, int, tuple[float, float]]:
    """Bins, a range, and elements within a few units in the last place of its edges."""
    bins = draw(st.integers(1, 400))
    center = draw(st.floats(-1e3, 1e3, width=16))
    width = draw(st.sampled_from([1e-2, 0.3, 1.0, 7.0, 100.0, 1e4])) * draw(st.floats(0.5, 2.0))
    pair = (center, center + width)
    dtype = np.dtype(name)
    edges = np.linspace(*pair, bins + 1).astype(dtype)
    picked = draw(st.lists(st.tuples(st.integers(0, bins), st.integers(-3, 3)), min_size=1, max_size=200))
    at, steps = np.array(picked).T
    x = edges[at]
    for _ in range(3):
        x = np.where(steps > 0, np.nextafter(x, dtype.type(np.inf)), x)
        x = np.where(steps < 0, np.nextafter(x, dtype.type(-np.inf)), x)
        steps = steps - np.sign(steps)
    return x, bins, pair


@pytest.mark.parametrize("name", ["float64", "float32", "float16"])
def test_any_bins_with_data_near_their_edges(name: str, isa: str) -> None:
    @STEADY
    @given(near_edges(name))
    def check(case: tuple[Array, int, tuple[float, float]]) -> None:
        x, bins, pair = case
        try:
            edges = np.histogram_bin_edges(x, bins, pair)
        except ValueError:
            with pytest.raises(ValueError, match="bins"):
                tensometer.histogram(x, bins, pair)
            return
        x = np.concatenate([x, np.full(128, x[0])])  # a whole row at least
        found = tensometer.histogram(x, bins, pair)
        assert np.array_equal(found.edges, edges)
        assert found.counts.tolist() == counted(x, edges.astype(np.float64))

    check()


@STEADY
@given(
    st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=2, max_size=30).map(sorted),
    st.lists(st.floats(), max_size=300),
)
def test_any_edges_and_any_data(edges: list[float], values: list[float]) -> None:
    x = np.array(values + edges * 4)
    assert tensometer.histogram(x, edges).counts.tolist() == counted(x, np.array(edges))


@pytest.mark.parametrize("name", [name for name in REAL if "float" in name and not name.endswith("fn")])
def test_nan_and_infinities_are_left_out(name: str, isa: str, rng: np.random.Generator) -> None:
    # numpy.histogram refuses data whose extremes are not finite; here the range is that of the finite elements.
    x = sample(rng, name, 10_007, "normal")
    expected = np.histogram(stand_in(x), 30)
    holes = [np.nan] if name.endswith("fnuz") else [np.nan, np.inf, -np.inf]
    spoilt = np.insert(x, rng.integers(0, x.size, 999), rng.choice(holes, 999).astype(x.dtype))
    assert_as_numpy(spoilt, 30, expected=expected)
    assert_as_numpy(spoilt, 30, (-1.0, 1.0), expected=np.histogram(stand_in(x), 30, (-1.0, 1.0)))
    assert_as_numpy(spoilt, expected[1], expected=expected)
    # Nothing finite is as nothing at all.
    empty = np.histogram(np.empty(0, STAND_IN.get(name, name)), 5)
    assert_as_numpy(np.full(300, holes[-1]).astype(x.dtype), 5, expected=empty)


def test_infinite_edges_hold_infinities() -> None:
    x = np.array([-np.inf, -1.0, 0.0, 2.0, np.inf, np.nan])
    assert tensometer.histogram(x, [-np.inf, 0.0, np.inf]).counts.tolist() == [2, 3]
    assert tensometer.histogram(x, [0.0, 1.0, np.inf]).counts.tolist() == [1, 2]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", REAL)
def test_every_kind_of_data(name: str, kind: str, isa: str, rng: np.random.Generator) -> None:
    x = sample(rng, name, 20_003, kind)
    for edges in (np.linspace(-2, 2, 51), np.array([-1e300, -1e30, -1e-30, 0.0, 1e-300, 1e-5, 1.0, 127.0, 1e308])):
        assert tensometer.histogram(x, edges).counts.tolist() == counted(x, edges)


@pytest.mark.parametrize("name", REAL)
@pytest.mark.parametrize("shape", [(0,), (3, 0)])
def test_empty(name: str, shape: tuple[int, ...]) -> None:
    x = np.empty(shape, DTYPES[name])
    assert_as_numpy(x, 6)
    assert_as_numpy(x, 6, (2.0, 5.0))
    assert_as_numpy(x, [0.0, 1.0, 4.0])
    counts, edges = tensometer.histogram(x)
    assert (counts.tolist(), edges[0], edges[-1]) == ([0] * 64, 0, 1)


@pytest.mark.parametrize("name", REAL)
def test_one_element_and_equal_elements(name: str) -> None:
    for value in (0, 1, 100):
        for size in (1, 5000):
            x = np.full(size, value, dtype=np.float64).astype(DTYPES[name])
            for bins in (1, 4, 5):
                assert_as_numpy(x, bins)
    assert_as_numpy(np.ones((), DTYPES[name]), 3)


@pytest.mark.parametrize("name", [name for name in INTEGER if name != "bool"])
def test_integer_extremes(name: str, isa: str, rng: np.random.Generator) -> None:
    info = np.iinfo(name)
    x = rng.integers(info.min, info.max, 6000, name, endpoint=True)
    x[:2] = info.min, info.max
    assert_as_numpy(x, 10)
    assert_as_numpy(x, 256)
    assert_as_numpy(x, 10, (0, 100))
    if x.itemsize < 8 or info.min == 0:
        assert_as_numpy(np.full(3, info.min, name), 7)
    if x.itemsize < 8:  # beyond 2^53 a width of 1 has no bins in float64
        assert_as_numpy(np.full(3, info.max, name), 7)


@pytest.mark.parametrize("name", ["int64", "uint64"])
def test_integers_beyond_float64(name: str) -> None:
    # float64 does not tell neighbours beyond 2^53 apart: elements and edges are rounded to it before they are compared.
    near = 2**53
    x = np.array([near - 1, near, near + 1, near + 2, near + 3, near + 9], name)
    edges = np.array([near - 2, near, near + 2, near + 4], name)
    rounded = x.astype(np.float64)
    assert_as_numpy(x, edges, expected=(np.histogram(rounded, edges)[0], edges))


@pytest.mark.parametrize("name", REAL)
def test_layouts(name: str, isa: str, rng: np.random.Generator) -> None:
    base = sample(rng, name, 300 * 240, "normal").reshape(300, 240)
    packed = np.empty(base.size * base.itemsize + 1, np.uint8)
    odd = packed[1:].view(base.dtype)
    odd[:] = base.reshape(-1)
    edges = np.linspace(-1, 1, 31)
    for x in (base.T, base[::3, ::-2], base[:, 5], np.asfortranarray(base), base[7:8], odd, base[1]):
        assert tensometer.histogram(x, edges).counts.tolist() == counted(x, edges)
        assert (
            tensometer.histogram(x, 31, (-1.0, 2.0)).counts.tolist()
            == np.histogram(stand_in(x), 31, (-1.0, 2.0))[0].tolist()
        )
    broadcast = np.broadcast_to(base[0], (50, 240))
    assert tensometer.histogram(broadcast, edges).counts.tolist() == [50 * n for n in counted(base[0], edges)]


@pytest.mark.parametrize("name", ["float64", "float32", "float16", "int16", "uint64"])
def test_swapped_byte_order(name: str, rng: np.random.Generator) -> None:
    x = sample(rng, name, 5000, "normal")
    assert_as_numpy(x.astype(x.dtype.newbyteorder(">")), 33, expected=np.histogram(x, 33))


@pytest.mark.parametrize("name", ["float64", "float32", "float16", "int32", "uint8", "bool"])
def test_torch_tensors(name: str, rng: np.random.Generator) -> None:
    x = sample(rng, name, 6000, "normal").reshape(60, 100)
    expected = np.histogram(stand_in(x), 20)
    for tensor in (torch.from_numpy(x), torch.from_numpy(x).T, torch.from_numpy(x).view(10, 6, 100).transpose(0, 2)):
        found = tensometer.histogram(tensor, 20)
        assert found.counts.tolist() == expected[0].tolist()
        assert np.array_equal(found.edges, expected[1])


def test_torch_bfloat16_and_sparse(rng: np.random.Generator) -> None:
    x = torch.from_numpy(rng.standard_normal(5000)).to(torch.bfloat16)
    assert tensometer.histogram(x, 40).counts.tolist() == np.histogram(x.double().numpy(), 40)[0].tolist()
    dense = torch.from_numpy(rng.standard_normal((60, 70)) * (rng.random((60, 70)) < 0.1))
    expected = np.histogram(dense.numpy(), 25)
    found = tensometer.histogram(dense.to_sparse(), 25)
    assert found.counts.tolist() == expected[0].tolist()
    assert np.array_equal(found.edges, expected[1])
    given = tensometer.histogram(dense.to_sparse(), [0.5, 1.0])
    assert given.counts.tolist() == counted(dense.numpy(), np.array([0.5, 1]))


# Chunks of 2^18 elements are counted apart; below 65 bins float32 lanes are counted in pairs.
@pytest.mark.parametrize("name", ["float32", "float64", "float16", "uint8"])
@pytest.mark.parametrize("bins", [1, 10, 64, 65, 500])
def test_threads_and_chunks(name: str, bins: int, rng: np.random.Generator) -> None:
    x = sample(rng, name, 3 * 2**18 + 12_345, "normal")
    expected = np.histogram(x, bins, (-1.0, 1.5))
    for isa in tensometer.isas():
        with tensometer.isa(isa):
            for threads in (1, 2, 5):
                assert_as_numpy(x, bins, (-1.0, 1.5), expected=expected, threads=threads)


def test_result_unpacks_as_numpys_does() -> None:
    h = tensometer.histogram(np.arange(10.0), bins=5, range=(0.0, 10.0))
    counts, edges = h
    assert (counts.tolist(), edges.tolist()) == ([2, 2, 2, 2, 2], [0.0, 2.0, 4.0, 6.0, 8.0, 10.0])
    assert (counts.tolist(), edges.tolist()) == (h.counts.tolist(), h.edges.tolist())
    assert repr(h) == "Histogram(bins=5, total=10)"


def test_number_of_bins_of_any_integer_type() -> None:
    x = np.arange(10.0)
    for bins in (5, np.int64(5), np.uint8(5), np.array(5)):
        assert_as_numpy(x, bins, expected=np.histogram(x, 5))
