"""One summary for every index along a dimension: bit for bit what summarize gives for the slice."""

import pickle
from collections.abc import Callable

import numpy as np
import pytest
import tensometer
import torch
from contract import bits, bits_of, statistics
from hypothesis import given
from hypothesis import strategies as st
from numpy.lib.stride_tricks import as_strided, sliding_window_view
from samples import DTYPES, KINDS, REAL, STEADY, Array, sample
from tensometer.tensors import RawTensor


def every_option(x: object) -> tensometer.Summary:
    return tensometer.summarize(x, histogram=True, resolution=4, fingerprint=True)


def units(x: object, dim: int, threads: int | None = None) -> tensometer.SummaryTable:
    return tensometer.summarize_units(x, dim, histogram=True, resolution=4, fingerprint=True, threads=threads)


def check(x: Array, dim: int) -> None:
    """Every row holds the bits of its slice's summary: sums, histogram, fingerprint, shape."""
    table = units(x, dim)
    assert len(table) == x.shape[dim]
    assert table.names is None
    for index, row in enumerate(table):
        expected = every_option(x[(slice(None),) * (dim % x.ndim) + (index,)])
        assert pickle.dumps(row) == pickle.dumps(expected), (x.shape, x.strides, dim, index)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", DTYPES)
def test_rows_are_summaries_of_slices(name: str, kind: str, rng: np.random.Generator) -> None:
    x = sample(rng, name, 6 * 7 * 9, kind).reshape(6, 7, 9)
    for dim in range(-3, 3):
        check(x, dim)


@pytest.mark.parametrize("name", ["float32", "float64", "bfloat16", "int8", "uint64", "complex128"])
def test_units_of_several_blocks(name: str, isa: str, rng: np.random.Generator) -> None:
    # Neighbours in memory are read a cache line's worth at a time: one more and one fewer than it holds.
    for count in (2, 3, 64 // DTYPES[name].itemsize + 1):
        x = sample(rng, name, count * 9001, "normal")
        check(x.reshape(count, 9001), 0)
        check(x.reshape(9001, count), 1)


@pytest.mark.parametrize("name", ["float32", "float16", "int8", "complex64"])
def test_rows_meet_the_contract(name: str, isa: str, rng: np.random.Generator) -> None:
    x = sample(rng, name, 5 * 8200, "normal").reshape(5, 8200)
    for table in (tensometer.summarize_units(x), tensometer.summarize_units(np.asfortranarray(x.T), -1)):
        for row, values in zip(table, x, strict=True):
            assert bits_of(row) == bits(statistics(values))
    for index, row in enumerate(tensometer.summarize_units(x[:, :70], 1)):
        assert bits_of(row) == bits(statistics(np.ascontiguousarray(x[:, index])))


LAYOUTS: dict[str, Callable[[Array], Array]] = {
    "transposed": lambda x: x.T,
    "fortran": np.asfortranarray,
    "permuted": lambda x: x.transpose(1, 2, 0),
    "channels last": lambda x: np.ascontiguousarray(x.transpose(0, 2, 1)).transpose(0, 2, 1),
    "stepped": lambda x: x[::2, 1::3, ::5],
    "stepped but for the last": lambda x: x[::2, 1::3],
    "reversed": lambda x: x[::-1, :, ::-1],
    "one column": lambda x: x[:, :, 3:4],
    "broadcast": lambda x: np.broadcast_to(x[:, :1], x.shape),
    "broadcast neighbours": lambda x: np.broadcast_to(x[:1], x.shape),
    "big-endian": lambda x: x.astype(x.dtype.newbyteorder(">")),
    "big-endian, transposed": lambda x: x.astype(x.dtype.newbyteorder(">")).T,
    "misaligned": lambda x: np.frombuffer(b"." + x.tobytes(), np.uint8)[1:].view(x.dtype).reshape(x.shape),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", ["float32", "float64", "int16", "uint8", "complex64"])
def test_layouts(name: str, layout: str, isa: str, rng: np.random.Generator) -> None:
    x = LAYOUTS[layout](sample(rng, name, 7 * 30 * 45, "normal").reshape(7, 30, 45))
    for dim in range(3):
        check(x, dim)


@pytest.mark.parametrize("dim", [0, 1])
def test_sliding_windows(dim: int, rng: np.random.Generator) -> None:
    check(sliding_window_view(sample(rng, "float32", 900, "normal"), 700), dim)


def test_units_that_overlap(rng: np.random.Generator) -> None:
    # Each unit is a dense matrix, transposed, that begins an element after the one before.
    memory = sample(rng, "float32", 4 * 3000 + 3, "normal")
    check(as_strided(memory, (3, 4, 3000), (4, 4, 16)), 0)


@given(st.data())
@STEADY
def test_any_view(data: st.DataObject) -> None:
    rank = data.draw(st.integers(1, 4))
    shape = data.draw(st.lists(st.integers(0, 5), min_size=rank, max_size=rank))
    step = data.draw(st.lists(st.sampled_from([1, 1, 2, -1, -2]), min_size=rank, max_size=rank))
    order = data.draw(st.permutations(range(rank)))
    name = data.draw(st.sampled_from(["float32", "float64", "uint8", "int16"]))
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    x = sample(rng, name, int(np.prod(shape)), "normal").reshape(shape)
    x = x[tuple(slice(None, None, s) for s in step)].transpose(order)
    check(x, data.draw(st.integers(-rank, rank - 1)))


def test_thousands_of_units(rng: np.random.Generator) -> None:
    # More than one batch of units, and a last one that is short.
    x = sample(rng, "float32", 2500 * 3, "holes").reshape(2500, 3)
    check(x, 0)
    check(np.asfortranarray(x), 0)
    check(sample(rng, "int8", 5000, "normal"), 0)


def test_convolution_weights() -> None:
    convolution = torch.nn.Conv2d(6, 10, (3, 5))
    last = convolution.weight.detach().contiguous(memory_format=torch.channels_last)
    for weight in (convolution.weight, last, last.transpose(0, 1), convolution.weight.bfloat16()):
        for dim in range(-4, 4):
            table = units(weight, dim)
            expected = [every_option(weight.select(dim, index)) for index in range(weight.shape[dim])]
            assert [pickle.dumps(row) for row in table] == [pickle.dumps(s) for s in expected]
            assert table[0].shape == tuple(weight.select(dim, 0).shape)


def test_lazy_views_of_torch() -> None:
    x = torch.randn(5, 6, dtype=torch.complex64).conj().imag
    assert x.is_neg()
    assert tensometer.summarize_units(x, 1).column("min").tolist() == x.amin(0).tolist()


def test_raw_tensors(rng: np.random.Generator) -> None:
    x = sample(rng, "bfloat16", 9 * 40, "bits").reshape(9, 40)
    for dim in range(2):
        raw = units(RawTensor(x.view(np.uint16), "bfloat16"), dim)
        assert list(raw) == list(units(x, dim))
        assert raw[0].dtype == "bfloat16"


@pytest.mark.parametrize("name", REAL)
def test_columns_are_what_rows_hold(name: str, rng: np.random.Generator) -> None:
    x = sample(rng, name, 8 * 31, "holes").reshape(8, 31)
    table = units(x, 1)
    columns = table.to_dict()
    assert list(columns) == table.columns
    for statistic, column in columns.items():
        assert column.shape == (31,)
        np.testing.assert_array_equal(column, np.array([getattr(row, statistic) for row in table], column.dtype))


def test_dead_rows(isa: str, rng: np.random.Generator) -> None:
    x = rng.standard_normal((50, 77)).astype(np.float32)
    x[[3, 40]] = 0
    x[41] = -0.0
    x[7, 5] = np.nan
    table = tensometer.summarize_units(x)
    assert np.flatnonzero(table.column("linf") == 0).tolist() == [3, 40, 41]
    assert np.flatnonzero(table.column("zero_fraction") == 1).tolist() == [3, 40, 41]
    assert np.flatnonzero(table.column("nan")).tolist() == [7]
    assert np.flatnonzero(tensometer.summarize_units(x.T, 1).column("linf") == 0).tolist() == [3, 40, 41]


def fingerprints(x: object, dim: int = 0) -> list[int]:
    column = tensometer.summarize_units(x, dim, fingerprint=True).column("fingerprint")
    assert column.dtype == np.uint64
    found: list[int] = column.tolist()
    return found


@pytest.mark.parametrize("name", DTYPES)
def test_equal_rows_have_equal_fingerprints_and_others_do_not(name: str, rng: np.random.Generator) -> None:
    x = sample(rng, name, 40 * 5000, "bits").reshape(40, 5000).copy()
    x[[5, 23, 39]] = x[11]
    for found in (fingerprints(x), fingerprints(np.asfortranarray(x)), fingerprints(x.T, 1)):
        assert {found[5], found[23], found[39]} == {found[11]}
        assert len(set(found)) == 37


def test_fingerprints_are_of_bits() -> None:
    # Zeros of either sign are two patterns, and so are two NaN, although zeros compare equal and NaN never do.
    patterns = np.array([0, 1 << 31, 0x7FC00000, 0x7FC00001, 0xFFC00000, 0x7F800000], np.uint32)
    x = np.repeat(np.tile(patterns, 2)[:, None], 3, axis=1).view(np.float32)
    found = fingerprints(x)
    assert found[:6] == found[6:]
    assert len(set(found)) == 6


def test_fingerprints_tell_rows_that_hold_the_same_elements_in_another_order() -> None:
    assert len(set(fingerprints(np.array([[1, 2, 3, 4], [4, 3, 2, 1], [2, 1, 3, 4], [3, 4, 1, 2]], np.float32)))) == 4


def test_fingerprints_of_rows_do_not_depend_on_the_others(rng: np.random.Generator) -> None:
    x = sample(rng, "float32", 20 * 30, "normal").reshape(20, 30)
    assert fingerprints(x[::-1]) == fingerprints(x)[::-1]
    assert fingerprints(x[7:9]) == fingerprints(x)[7:9]


@pytest.mark.parametrize("threads", [1, 2, 5, 8])
@pytest.mark.parametrize("shape", [(2000, 300), (3, 300_001), (1, 600_000)])
def test_threads(shape: tuple[int, int], threads: int, rng: np.random.Generator) -> None:
    x = sample(rng, "float32", shape[0] * shape[1], "holes").reshape(shape)
    for view, dim in ((x, 0), (x.T, 1), (np.asfortranarray(x), 0)):
        expected = [pickle.dumps(every_option(view[row] if dim == 0 else view[:, row])) for row in range(shape[0])]
        assert [pickle.dumps(row) for row in units(view, dim, threads)] == expected


def test_sampled_histograms(rng: np.random.Generator) -> None:
    x = sample(rng, "float32", 3 * 700_000, "normal").reshape(3, 700_000)
    for view, dim in ((x, 0), (x.T, 1)):
        table = tensometer.summarize_units(view, dim, histogram="sampled")
        assert list(table) == [tensometer.summarize(row, histogram="sampled") for row in x]
    for index, row in enumerate(tensometer.summarize_units(np.asfortranarray(x), 0, histogram="sampled")):
        assert pickle.dumps(row) == pickle.dumps(tensometer.summarize(x[index], histogram="sampled"))


@pytest.mark.parametrize(("shape", "dim"), [((0,), 0), ((0, 5), 0), ((5, 0), 1), ((2, 0, 3), 1)])
def test_no_units(shape: tuple[int, ...], dim: int) -> None:
    table = units(np.empty(shape, np.float32), dim)
    assert len(table) == 0
    assert list(table) == []
    assert all(column.shape == (0,) for column in table.to_dict().values())
    with pytest.raises(IndexError, match="row 0 of a table of 0"):
        table[0]
    with pytest.raises(ValueError, match="the table is empty"):
        table.total()


@pytest.mark.parametrize(("shape", "dim"), [((0, 5), 1), ((5, 0), 0), ((2, 0, 3), -1), ((2, 0, 3), 0)])
def test_empty_units(shape: tuple[int, ...], dim: int) -> None:
    x = np.empty(shape, np.float32)
    check(x, dim)
    table = units(x, dim)
    assert not table.column("count").any()
    assert np.isnan(table.column("mean")).all()
    assert len(set(table.column("fingerprint").tolist())) == 1


def test_columns_of_no_units_are_those_of_some() -> None:
    some, none = (units(np.zeros((count, 3), np.int64), 0) for count in (2, 0))
    assert none.columns == some.columns
    assert list(none.to_dict()) == list(some.to_dict())


@pytest.mark.parametrize(
    ("shape", "dim"), [((2, 3), 2), ((2, 3), -3), ((), 0), ((), -1), ((4,), 1), ((2, 3), 64), ((2, 3), 10**30)]
)
def test_dimensions_that_do_not_exist(shape: tuple[int, ...], dim: int) -> None:
    with pytest.raises(ValueError, match=rf"^dim: {dim} is (out of range for a tensor of {len(shape)}|not between)"):
        tensometer.summarize_units(np.zeros(shape), dim)


@pytest.mark.parametrize("dim", [None, 1.0, "0", True, (0,), np.array([0, 1])])
def test_dimensions_that_are_no_whole_number(dim: object) -> None:
    with pytest.raises(TypeError, match=r"^dim: .* is not a whole number"):
        tensometer.summarize_units(np.zeros((2, 3)), dim)  # type: ignore[arg-type]


def test_dimensions_of_numpy_and_by_name() -> None:
    x = np.arange(6.0).reshape(2, 3)
    expected = list(tensometer.summarize_units(x, 1))
    for dim in (np.int8(1), np.uint64(1), np.array(1), torch.tensor(1)):
        assert list(tensometer.summarize_units(x, dim)) == expected  # type: ignore[arg-type]
    assert list(tensometer.summarize_units(x=x, dim=-1)) == expected
    assert list(tensometer.summarize_units(x)) == list(tensometer.summarize_units(x, 0))


def test_what_is_no_dense_tensor() -> None:
    with pytest.raises(TypeError, match="x: is sparse"):
        tensometer.summarize_units(torch.eye(3).to_sparse())
    with pytest.raises(TypeError, match="x: list is not a tensor"):
        tensometer.summarize_units([[1.0]])
    with pytest.raises(TypeError, match="x: dtype"):
        tensometer.summarize_units(np.array([["a"]]))
    with pytest.raises(ValueError, match=r"x: .* meta"):
        tensometer.summarize_units(torch.zeros(2, 2, device="meta"))


def test_total_merges_rows_from_the_first_on(rng: np.random.Generator) -> None:
    x = sample(rng, "float32", 12 * 500, "holes").reshape(12, 500)
    table = units(x, 0)
    merged = table[0]
    for row in list(table)[1:]:
        merged = merged.merge(row)
    assert pickle.dumps(table.total()) == pickle.dumps(merged)
    whole = tensometer.summarize(x, histogram=True, resolution=4)
    total = table.total()
    assert total.histogram == whole.histogram
    for exact in ("count", "zeros", "negatives", "nan", "posinf", "neginf", "min", "max"):
        assert getattr(total, exact) == getattr(whole, exact)
