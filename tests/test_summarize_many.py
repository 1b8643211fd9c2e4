"""Many tensors in one call: a row for each, bit for bit what summarize gives for it alone."""

import functools
import gc
import pickle
import types
import weakref
from collections import OrderedDict, UserDict
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import tensometer
import torch
from samples import DTYPES, KINDS, Array, sample
from tensometer.tensors import RawTensor

OPTIONS: list[dict[str, object]] = [
    {},
    {"histogram": True},
    {"histogram": True, "resolution": 0, "fingerprint": True},
    {"histogram": "sampled", "resolution": 7},
    {"fingerprint": True, "threads": 3},
]


def bits(summaries: object) -> list[bytes]:
    """The bytes of every summary: == tells even zeros of different sign."""
    assert isinstance(summaries, (list, tensometer.SummaryTable))
    return [pickle.dumps(summary) for summary in summaries]


def zoo(rng: np.random.Generator, count: int = 200) -> list[Array]:
    """Tensors of every dtype and kind, most of them small, of 0 to 3 dimensions, some strided."""
    found: list[Array] = []
    for index in range(count):
        name, kind = list(DTYPES)[index % len(DTYPES)], KINDS[index % len(KINDS)]
        x = sample(rng, name, int(rng.integers(0, 6)) * 24 if index % 7 else 9000, kind)
        forms: list[Callable[[Array], Array]] = [
            lambda x: x,
            lambda x: x.reshape(-1, 24).T,
            lambda x: x.reshape(2, -1, 3),
            lambda x: x[::-3],
            lambda x: x[:1].reshape(()) if x.size else x,
        ]
        found.append(forms[index % len(forms)](x))
    return found


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_rows_are_the_summaries_of_each(options: dict[str, object], isa: str, rng: np.random.Generator) -> None:
    tensors = zoo(rng)
    table = tensometer.summarize_many(tensors, **options)  # type: ignore[arg-type]
    expected = [tensometer.summarize(x, **options) for x in tensors]  # type: ignore[arg-type]
    assert bits(table) == bits(expected)


def test_thousands_of_tensors(rng: np.random.Generator) -> None:
    # More than two batches of the core, the last one short; large ones among tiny ones.
    tensors = zoo(rng, 3000)
    tensors[1023] = sample(rng, "float32", 300_000, "normal")
    tensors[2047] = sample(rng, "int8", 300_000, "normal")
    expected = bits([tensometer.summarize(x, histogram=True, fingerprint=True) for x in tensors])
    for threads in (1, 2, 8):
        table = tensometer.summarize_many(tensors, histogram=True, fingerprint=True, threads=threads)
        assert bits(table) == expected


@pytest.mark.parametrize("threads", [1, 2, 3, 4, 8, None])
def test_threads(threads: int | None, rng: np.random.Generator) -> None:
    tensors = [sample(rng, name, 150_000, "holes")[:: 1 + index % 3] for index, name in enumerate(DTYPES)]
    expected = bits([tensometer.summarize(x, histogram=True, threads=1) for x in tensors])
    assert bits(tensometer.summarize_many(tensors, histogram=True, threads=threads)) == expected


# Collections.


class ByIndex:
    """Iterable by the old protocol alone."""

    def __init__(self, tensors: list[Array]) -> None:
        self.tensors = tensors

    def __getitem__(self, index: int) -> Array:
        return self.tensors[index]


COLLECTIONS: dict[str, Callable[[list[Array]], object]] = {
    "list": list,
    "tuple": tuple,
    "generator": lambda tensors: (x for x in tensors),
    "iterator": iter,
    "map": lambda tensors: map(np.asarray, tensors),
    "object array": lambda tensors: np.fromiter(tensors, object, len(tensors)),
    "values": lambda tensors: dict(enumerate(tensors)).values(),
    "by index": ByIndex,
}


@pytest.mark.parametrize("collection", COLLECTIONS)
def test_iterables(collection: str, rng: np.random.Generator) -> None:
    tensors = zoo(rng, 30)
    table = tensometer.summarize_many(COLLECTIONS[collection](tensors))  # type: ignore[arg-type]
    assert table.names is None
    assert len(table) == 30
    assert bits(table) == bits([tensometer.summarize(x) for x in tensors])
    with pytest.raises(KeyError, match="the rows of this table have no names"):
        table["0"]


@pytest.mark.parametrize("mapping", [dict, OrderedDict, UserDict, lambda d: types.MappingProxyType(dict(d))])
def test_mappings(mapping: Callable[[object], object], rng: np.random.Generator) -> None:
    names = ["layer.0.weight", "", "a b", "重み.ß", "layer.0", "Layer.0", "\U0001f600", "nul\0inside", "-1", "0"]
    tensors = zoo(rng, len(names))
    table = tensometer.summarize_many(mapping(zip(names, tensors, strict=True)))  # type: ignore[arg-type]
    assert table.names == names
    for index, name in enumerate(names):
        assert bits([table[name]]) == bits([table[index]]) == bits([tensometer.summarize(tensors[index])])


def test_rows_of_an_array_and_of_a_torch_tensor(rng: np.random.Generator) -> None:
    x = sample(rng, "float32", 60, "normal").reshape(3, 4, 5)
    expected = bits([tensometer.summarize(row) for row in x])
    assert bits(tensometer.summarize_many(x)) == expected
    assert bits(tensometer.summarize_many(torch.from_numpy(x))) == expected


@pytest.mark.parametrize("nothing", [[], (), {}, iter([]), np.empty((0, 3))], ids=lambda x: type(x).__name__)
def test_nothing(nothing: object) -> None:
    table = tensometer.summarize_many(nothing, histogram=True)  # type: ignore[arg-type]
    assert len(table) == 0
    assert list(table) == []
    assert table.names == ([] if isinstance(nothing, dict) else None)
    assert {name: column.shape for name, column in table.to_dict().items()} == dict.fromkeys(table.columns, (0,))
    for index in (0, -1):
        with pytest.raises(IndexError, match=f"row {index} of a table of 0"):
            table[index]
    with pytest.raises(ValueError, match="total: the table is empty"):
        table.total()


# Looking at a table.


def named(rng: np.random.Generator) -> tensometer.SummaryTable:
    tensors = {f"t{index}": sample(rng, "float32", 10 + index, "normal") for index in range(5)}
    return tensometer.summarize_many(tensors, fingerprint=True)


def test_rows_by_index_and_name(rng: np.random.Generator) -> None:
    table = named(rng)
    assert [table[index].count for index in range(5)] == [10, 11, 12, 13, 14]
    assert [table[index - 5].count for index in range(5)] == [10, 11, 12, 13, 14]
    assert table[np.int64(-1)] == table["t4"] == table[4]  # type: ignore[index]
    for index in (5, -6, 2**62):
        with pytest.raises(IndexError, match=f"row {index} of a table of 5"):
            table[index]
    for name in ("t5", "", "T0"):
        with pytest.raises(KeyError, match=f"no row is named '{name}'"):
            table[name]
    for key in (1.0, None, slice(0, 2), (0,)):
        with pytest.raises(TypeError, match="key"):
            table[key]  # type: ignore[index]


def test_iteration_and_lifetime(rng: np.random.Generator) -> None:
    table = named(rng)
    expected = bits(table)
    assert bits(table) == expected, "a second time"
    rows = iter(table)
    first = next(rows)
    row, names = table["t1"], table.names
    del table
    gc.collect()
    assert bits([first, *rows]) == expected
    assert pickle.dumps(row) == expected[1]
    assert names == ["t0", "t1", "t2", "t3", "t4"]


def test_names_and_columns_are_copies(rng: np.random.Generator) -> None:
    table = named(rng)
    assert table.names is not None
    table.names.clear()
    table.columns.clear()
    table.column("mean")[:] = 0
    assert table.names == ["t0", "t1", "t2", "t3", "t4"]
    assert len(table.columns) == 21
    assert table.column("mean").all()


def test_columns(rng: np.random.Generator) -> None:
    tensors = zoo(rng, 60)
    table = tensometer.summarize_many(tensors, fingerprint=True)
    summaries = [tensometer.summarize(x, fingerprint=True) for x in tensors]
    columns = table.to_dict()
    assert list(columns) == table.columns
    assert set(columns) == set(summaries[0].to_dict()) - {"dtype", "shape"}
    for name, column in columns.items():
        expected = np.array([getattr(summary, name) for summary in summaries], column.dtype)
        np.testing.assert_array_equal(column, expected, strict=True)
        np.testing.assert_array_equal(column, table.column(name), strict=True)
        whole = isinstance(summaries[0].to_dict()[name], int) and name not in ("min", "max")
        assert column.dtype == (np.uint64 if whole else np.float64), name


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["int64", "int8", "uint8", "bool", "uint32"], np.int64),
        (["uint64", "uint64"], np.uint64),
        (["uint64", "int64"], np.float64),
        (["int64", "float32"], np.float64),
        (["float8_e5m2"], np.float64),
    ],
)
def test_columns_of_extremes(names: list[str], expected: type, rng: np.random.Generator) -> None:
    tensors = [sample(rng, name, 400, "huge") for name in names]
    table = tensometer.summarize_many(tensors)
    for statistic in ("min", "max"):
        column = table.column(statistic)
        assert column.dtype == expected
        assert column.tolist() == [expected(getattr(tensometer.summarize(x), statistic)) for x in tensors]
    # An empty tensor has no extremes, which only a float can say.
    with_empty = tensometer.summarize_many([*tensors, np.empty(0, DTYPES[names[0]])])
    assert with_empty.column("min").dtype == np.float64
    assert np.isnan(with_empty.column("max")[-1])


def test_columns_that_are_not_there() -> None:
    table = tensometer.summarize_many([np.ones(3)])
    assert "fingerprint" not in table.columns
    with pytest.raises(ValueError, match="fingerprint was not asked for"):
        table.column("fingerprint")
    for name in ("median", "Mean", "", "histogram", "shape"):
        with pytest.raises(ValueError, match=f"statistic: '{name}' is unknown"):
            table.column(name)
    with pytest.raises(TypeError, match="statistic"):
        table.column(0)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", DTYPES)
def test_total_merges_rows_from_the_first_on(name: str, rng: np.random.Generator) -> None:
    tensors = [sample(rng, name, size, KINDS[size % 7]) for size in (0, 1, 5000, 0, 77, 4096, 130, 9999)]
    for options in OPTIONS:
        table = tensometer.summarize_many(tensors, **options)  # type: ignore[arg-type]
        expected = functools.reduce(tensometer.Summary.merge, table)
        assert bits([table.total()]) == bits([expected])
    whole = tensometer.summarize(np.concatenate(tensors), histogram=True)
    total = tensometer.summarize_many(tensors, histogram=True).total()
    assert (total.histogram, total.fingerprint, total.shape) == (whole.histogram, None, whole.shape)
    for exact in ("count", "zeros", "negatives", "nan", "posinf", "neginf", "min", "max", "linf"):
        assert getattr(total, exact) == getattr(whole, exact), exact


def test_totals_of_one_row_and_of_dtypes_that_differ(rng: np.random.Generator) -> None:
    x = sample(rng, "float32", 50, "normal")
    one = tensometer.summarize_many([x], fingerprint=True)
    assert bits([one.total()]) == bits([one[0]])
    with pytest.raises(ValueError, match=r"float32 and float64"):
        tensometer.summarize_many([x, x.astype(np.float64)]).total()


# Tensors of other libraries.


def test_torch_tensors(rng: np.random.Generator) -> None:
    tensors = [
        torch.randn(6, 7, requires_grad=True),
        torch.randn(6, 7).t()[::2],
        torch.randn(5, dtype=torch.bfloat16),
        torch.randn(5).to(torch.float8_e5m2),
        torch.eye(4).to_sparse(),
        torch.randn(4, dtype=torch.complex64).conj(),
        torch.tensor(3),
        torch.empty(0, 2),
    ]
    mixed: list[object] = [
        *tensors,
        RawTensor(np.arange(9, dtype=np.uint16), "bfloat16"),
        memoryview(b"abc"),
        np.ones(2),
    ]
    assert bits(tensometer.summarize_many(mixed)) == bits([tensometer.summarize(x) for x in mixed])


def test_the_state_of_a_module() -> None:
    module = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.BatchNorm2d(8), torch.nn.Linear(8, 2)).half()
    state = module.state_dict()
    table = tensometer.summarize_many(state, histogram=True)
    assert table.names == list(state)
    for name, x in state.items():
        assert bits([table[name]]) == bits([tensometer.summarize(x, histogram=True)])
        assert table[name].shape == tuple(x.shape)
    assert table["1.num_batches_tracked"].dtype == "int64"
    assert bits(tensometer.summarize_many(module.parameters())) == bits(
        [tensometer.summarize(p) for p in module.parameters()]
    )


# What is wrong is named, and nothing is kept.


@pytest.mark.parametrize(
    ("bad", "error"),
    [
        ([1.0], TypeError),
        (None, TypeError),
        ("text", TypeError),
        (np.array(["a"]), TypeError),
        (np.zeros(3, object), TypeError),
        (torch.empty(3, device="meta"), ValueError),
        (np.ma.masked_array([1.0], [True]), TypeError),
    ],
    ids=lambda x: type(x).__name__,
)
def test_a_bad_tensor_is_named(bad: object, error: type[Exception]) -> None:
    tensors: list[object] = [np.ones(3) for _ in range(1500)]
    tensors[1203] = bad
    with pytest.raises(error, match=r"^tensors\[1203\]: "):
        tensometer.summarize_many(tensors)
    with pytest.raises(error, match=r"tensors\[1203\]|layer\.1203"):
        tensometer.summarize_many({f"layer.{index}": x for index, x in enumerate(tensors)})


def test_a_sparse_tensor_has_no_fingerprint() -> None:
    with pytest.raises(ValueError, match=r"tensors\[1\]: is sparse"):
        tensometer.summarize_many([torch.eye(3), torch.eye(3).to_sparse()], fingerprint=True)


@pytest.mark.parametrize("tensors", [None, 5, 1.5, "ab", np.ones(()), object()], ids=lambda x: type(x).__name__)
def test_what_is_no_collection(tensors: object) -> None:
    with pytest.raises(TypeError, match=rf"tensors: {type(tensors).__name__} is neither an iterable nor a mapping"):
        tensometer.summarize_many(tensors)  # type: ignore[arg-type]


def test_names_that_are_none() -> None:
    for key in (0, None, b"a", ("a",)):
        with pytest.raises(TypeError, match="tensors: the names of a mapping must be strings"):
            tensometer.summarize_many({"a": np.ones(2), key: np.ones(2)})


def test_a_name_that_is_no_text() -> None:
    # A lone surrogate, as os.fsdecode makes one of a byte that is no UTF-8: either a name or a wrong argument.
    name = "\udcff"
    try:
        table = tensometer.summarize_many({name: np.ones(2)})
    except ValueError as error:
        assert "tensors" in str(error) or isinstance(error, UnicodeError)  # noqa: PT017
    else:
        assert table.names == [name]


@pytest.mark.parametrize("option", ["histogram", "resolution", "fingerprint", "threads"])
def test_wrong_options(option: str) -> None:
    with pytest.raises((TypeError, ValueError), match=f"^{option}: 'x' is not"):
        tensometer.summarize_many([], **{option: "x"})  # type: ignore[arg-type]


def test_what_a_generator_raises_comes_through() -> None:
    def broken() -> Iterator[Array]:
        yield np.ones(3)
        raise LookupError("the disk is gone")

    with pytest.raises(LookupError, match="the disk is gone"):
        tensometer.summarize_many(broken())


@pytest.mark.parametrize("fails", [False, True])
def test_temporaries_are_released(fails: bool) -> None:
    watched: list[weakref.ref[object]] = []
    lent = bytearray(4000)

    def temporaries() -> Iterator[object]:
        for index in range(50):
            x: object = np.full(1000, index, np.float32) if index % 2 else torch.full((1000,), float(index))
            watched.append(weakref.ref(x))
            yield x
        yield memoryview(lent)
        if fails:
            yield "no tensor"

    if fails:
        with pytest.raises(TypeError, match=r"tensors\[51\]"):
            tensometer.summarize_many(temporaries())
    else:
        assert tensometer.summarize_many(temporaries())[49].max == 49
    gc.collect()
    assert len(watched) == 50
    assert not [ref for ref in watched if ref() is not None]
    lent.clear()  # BufferError while anybody holds its memory
