"""Wrong arguments: an error that names the argument and what was found, before any work is done."""

import array
import ctypes
import gc
import re
import weakref
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import pytest
import tensometer
import torch

X = np.zeros(3, np.float32)


class OnDevice:
    """A tensor that says it lies elsewhere, as one of another library on a GPU would."""

    def __init__(self, device: int) -> None:
        self.device = device

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.device, 0

    def __dlpack__(self, **_: object) -> object:
        raise BufferError("cannot be exported")


class CudaArray:
    __cuda_array_interface__: ClassVar = {"shape": (3,), "typestr": "<f4", "data": (0, False), "version": 3}


class Broken:
    def __dlpack__(self, **_: object) -> object:
        return "no capsule"


class Ragged:
    __array_interface__: ClassVar = {"shape": (3,), "typestr": "<f4", "data": None, "version": 3, "strides": (4, 4)}


NO_TENSORS: dict[str, object] = {
    "None": None,
    "str": "weights",
    "int": 3,
    "float": 1.5,
    "list": [1.0, 2.0],
    "list of str": ["a"],
    "dict": {},
    "type": np.ndarray,
    "function": len,
    "object array": np.array([None, 1], object),
    "text array": np.array(["a"]),
    "masked array": np.ma.masked_array(X, X == 0),
    "no capsule": Broken(),
}
CALLS: dict[str, tuple[str, Callable[[Any], object]]] = {
    "summarize": ("x", tensometer.summarize),
    "summarize_many": ("tensors[1]", lambda x: tensometer.summarize_many([X, x])),
    "summarize_many of names": ("tensors['b']", lambda x: tensometer.summarize_many({"a": X, "b": x})),
    "summarize_units": ("x", lambda x: tensometer.summarize_units(x, 0)),
    "compare old": ("old", lambda x: tensometer.compare(x, X)),
    "compare new": ("new", lambda x: tensometer.compare(X, x)),
    "histogram": ("x", tensometer.histogram),
    "update": ("x", lambda x: tensometer.Accumulator().update(x)),
}


@pytest.mark.parametrize("wrong", NO_TENSORS.values(), ids=NO_TENSORS)
@pytest.mark.parametrize(("argument", "call"), CALLS.values(), ids=CALLS)
def test_no_tensors(argument: str, call: Callable[[Any], object], wrong: object) -> None:
    with pytest.raises(TypeError) as caught:
        call(wrong)
    message = str(caught.value)
    assert message.startswith(f"{argument}: ")
    if not isinstance(wrong, np.ndarray | Broken):
        assert f"{type(wrong).__name__} is not a tensor" in message


@pytest.mark.parametrize("wrong", [OnDevice(10), OnDevice(99)])
@pytest.mark.parametrize(("argument", "call"), CALLS.values(), ids=CALLS)
def test_other_devices(argument: str, call: Callable[[Any], object], wrong: object) -> None:
    words = "tensors in CPU memory and on CUDA devices are reduced"
    with pytest.raises(ValueError, match=rf"^{re.escape(argument)}: lies on .*; {words}"):
        call(wrong)


@pytest.mark.parametrize(("argument", "call"), CALLS.values(), ids=CALLS)
def test_cuda_without_a_driver(argument: str, call: Callable[[Any], object], monkeypatch: pytest.MonkeyPatch) -> None:
    del argument
    monkeypatch.setenv("TENSOMETER_LIBCUDA", "/nowhere/libcuda.so.1")
    with pytest.raises(RuntimeError, match=r"^cuda: no driver: /nowhere/libcuda\.so\.1"):
        call(CudaArray())


class NoDict:
    __array_interface__ = 5


class Five:
    def __dlpack__(self, **_: object) -> object:
        return 5


@pytest.mark.parametrize("liar", [Ragged(), NoDict(), Five()])
def test_producers_that_lie(liar: object) -> None:
    with pytest.raises(TypeError, match=r"^x: "):
        tensometer.summarize(liar)


@pytest.mark.parametrize("name", ["bits8", "float8_e8m0fnu", "complex32"])
@pytest.mark.filterwarnings("ignore:ComplexHalf support is experimental")
def test_dtypes_of_torch_that_nothing_is_known_of(name: str) -> None:
    dtype = getattr(torch, name)
    x = torch.zeros(3, dtype=torch.uint8).view(dtype) if name == "bits8" else torch.empty(3, dtype=dtype)
    with pytest.raises(TypeError, match=f"^x: dtype torch.{name} cannot be summarized"):
        tensometer.summarize(x)


def test_totals_of_different_dtypes() -> None:
    table = tensometer.summarize_many([X, X.astype(np.int32)])
    with pytest.raises(ValueError, match="total: the rows have different dtypes, float32 and int32"):
        table.total()


# argument -> wrong value, error, message
OPTIONS: list[tuple[str, object, type[Exception], str]] = [
    ("histogram", "full", ValueError, "histogram: 'full' is not True, False or 'sampled'"),
    ("histogram", None, ValueError, "histogram: None is not True, False or 'sampled'"),
    ("histogram", 1, ValueError, "histogram: 1 is not True, False or 'sampled'"),
    ("resolution", 8, ValueError, "resolution: 8 is not between 0 and 7"),
    ("resolution", -1, ValueError, "resolution: -1 is not between 0 and 7"),
    ("resolution", 10**30, ValueError, f"resolution: {10**30} is not between 0 and 7"),
    ("resolution", 2.5, TypeError, "resolution: 2.5 is not a whole number"),
    ("resolution", True, TypeError, "resolution: True is not a whole number"),
    ("resolution", None, TypeError, "resolution: None is not a whole number"),
    ("threads", 0, ValueError, "threads: 0 is not between 1 and 1024"),
    ("threads", -3, ValueError, "threads: -3 is not between 1 and 1024"),
    ("threads", 1025, ValueError, "threads: 1025 is not between 1 and 1024"),
    ("threads", "2", TypeError, "threads: '2' is not a whole number"),
    ("fingerprint", 1, TypeError, "fingerprint: 1 is not True or False"),
    ("fingerprint", None, TypeError, "fingerprint: None is not True or False"),
]
TAKES_OPTIONS: dict[str, Callable[..., object]] = {
    "summarize": lambda **options: tensometer.summarize(X, **options),
    "summarize_many": lambda **options: tensometer.summarize_many([X], **options),
    "summarize_units": lambda **options: tensometer.summarize_units(X, 0, **options),
    "compare": lambda **options: tensometer.compare(X, X, **options),
    "Accumulator": lambda **options: tensometer.Accumulator("float32", **options),
    "histogram": lambda **options: tensometer.histogram(X, **options),
}


@pytest.mark.parametrize(("name", "value", "error", "message"), OPTIONS)
@pytest.mark.parametrize(("function", "call"), TAKES_OPTIONS.items(), ids=TAKES_OPTIONS)
def test_options(
    function: str, call: Callable[..., object], name: str, value: object, error: type[Exception], message: str
) -> None:
    lacks = {"compare": ("fingerprint",), "histogram": ("fingerprint", "histogram", "resolution")}
    if name in lacks.get(function, ()):
        error, message = TypeError, name
    with pytest.raises(error, match=re.escape(message)):
        call(**{name: value})


def test_options_are_checked_before_the_tensor() -> None:
    with pytest.raises(ValueError, match="resolution"):
        tensometer.summarize(None, resolution=99)


@pytest.mark.parametrize(
    ("dim", "error", "message"),
    [
        (2, ValueError, "dim: 2 is out of range for a tensor of 2 dimensions"),
        (-3, ValueError, "dim: -3 is out of range for a tensor of 2 dimensions"),
        (1.0, TypeError, "dim: 1.0 is not a whole number"),
        (None, TypeError, "dim: None is not a whole number"),
        ("0", TypeError, "dim: '0' is not a whole number"),
    ],
)
def test_dim(dim: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=re.escape(message)):
        tensometer.summarize_units(np.zeros((2, 3)), dim)


def test_units_of_a_scalar() -> None:
    with pytest.raises(ValueError, match="dim: 0 is out of range for a tensor of 0 dimensions"):
        tensometer.summarize_units(np.zeros(()), 0)


@pytest.mark.parametrize(
    ("bins", "limits", "error", "message"),
    [
        (0, None, ValueError, "bins: 0 is not between 1 and"),
        (-1, None, ValueError, "bins: -1 is not between 1 and"),
        (1.5, None, TypeError, "bins: 1.5 is neither a number of bins nor a sequence of edges"),
        (None, None, TypeError, "bins: None is neither a number of bins nor a sequence of edges"),
        ("auto", None, TypeError, "bins: 'auto' is neither a number of bins nor a sequence of edges"),
        ([1.0], None, ValueError, "bins: edges must be a sequence of at least 2"),
        ([2.0, 1.0], None, ValueError, "bins"),
        (4, (1, 0), ValueError, "range: (1, 0) is not finite and ascending"),
        (4, (0, float("nan")), ValueError, "range: (0, nan) is not finite and ascending"),
        (4, (0, float("inf")), ValueError, "range: (0, inf) is not finite and ascending"),
        (4, (0, 1, 2), TypeError, "range: (0, 1, 2) is not a pair (lowest, highest)"),
        (4, "01", TypeError, "range: '01' is not a pair (lowest, highest)"),
        (4, 3, TypeError, "range: 3 is not a pair (lowest, highest)"),
        (4, ("a", "b"), TypeError, "range: 'a' is not a number"),
        (4, b"ab", TypeError, "range: b'ab' is not a pair (lowest, highest)"),
        (b"abc", None, TypeError, "bins: b'abc' is neither a number of bins nor a sequence of edges"),
        (["a", "b"], None, TypeError, "bins: ['a', 'b'] is not numbers"),
        ([1j, 2], None, TypeError, "bins: [1j, 2] is not numbers"),
        ([0, None], None, TypeError, "bins: [0, None] is not numbers"),
        (np.array(["2020", "2021"], "M8[Y]"), None, TypeError, "bins"),
        ([[0, 1], [2, 3]], None, ValueError, "bins: edges must be a sequence of at least 2, not of shape (2, 2)"),
        ([0.0, float("nan"), 1.0], None, ValueError, "bins: edges must ascend, and do not at 1"),
        ({}, None, (TypeError, ValueError), "bins"),
        (4, (0, 10**400), ValueError, "range"),
    ],
)
def test_bins_and_range(
    bins: Any, limits: Any, error: type[Exception] | tuple[type[Exception], ...], message: str
) -> None:
    with pytest.raises(error) as caught:
        tensometer.histogram(X, bins, limits)
    assert message in str(caught.value)


def test_edges_of_other_libraries() -> None:
    for edges in (torch.tensor([0.0, 1.0, 2.0]), (0, 1, 2), range(3), np.array([0, 1, 2], np.uint8)):
        assert tensometer.histogram(X, edges).counts.tolist() == [3, 0]
    assert tensometer.histogram(X, np.int16(2)).counts.tolist() == [0, 3]


@pytest.mark.parametrize("wrong", ["float7", "torch.float7", "", 3, np.str_, "<U3", None])
def test_dtype_of_an_accumulator(wrong: Any) -> None:
    if wrong is None:
        assert tensometer.Accumulator(wrong).dtype is None
        return
    with pytest.raises(TypeError, match=r"dtype: dtype .* cannot be summarized; dtypes are float64"):
        tensometer.Accumulator(wrong)


@pytest.mark.parametrize("wrong", [None, 3, "abc", object()])
def test_many_of_no_iterable(wrong: Any) -> None:
    with pytest.raises(TypeError, match=r"tensors: \w+ is neither an iterable nor a mapping of tensors"):
        tensometer.summarize_many(wrong)


def test_many_stop_at_what_a_generator_raises() -> None:
    def tensors() -> Any:
        yield X
        raise RuntimeError("the loader failed")

    with pytest.raises(RuntimeError, match="the loader failed"):
        tensometer.summarize_many(tensors())


def test_statistics_by_name() -> None:
    table = tensometer.summarize_many([X, X])
    with pytest.raises(ValueError, match="statistic: 'median' is unknown"):
        table.column("median")
    with pytest.raises(ValueError, match="fingerprint was not asked for"):
        table.column("fingerprint")
    with pytest.raises(IndexError, match="row 2 of a table of 2"):
        table[2]
    with pytest.raises(KeyError, match="the rows of this table have no names"):
        table["a"]
    with pytest.raises(ValueError, match="the table is empty"):
        tensometer.summarize_many([]).total()


BUFFERS: dict[str, tuple[object, list[float]]] = {
    "bytes": (b"\x01\x02\xff", [1, 2, 255]),
    "bytearray": (bytearray(b"\x00\x07"), [0, 7]),
    "array.array": (array.array("d", [1.5, -2.5]), [1.5, -2.5]),
    "memoryview": (memoryview(array.array("d", range(10)))[::-3], [9, 6, 3, 0]),
    "ctypes": ((ctypes.c_int16 * 3)(-1, 0, 5), [-1, 0, 5]),
    "0-d": (np.float32(2.5), [2.5]),
    "torch scalar": (torch.tensor(7), [7]),
}


@pytest.mark.parametrize(("x", "values"), BUFFERS.values(), ids=BUFFERS)
def test_anything_with_a_buffer(x: object, values: list[float]) -> None:
    s = tensometer.summarize(x)
    assert (s.count, s.min, s.max, s.sum) == (len(values), min(values), max(values), sum(values))


class Interface:
    """Memory of another library, by its array interface."""

    def __init__(self, x: np.ndarray[Any, np.dtype[Any]]) -> None:
        self.x = x
        self.__array_interface__ = x.__array_interface__


class Exporter:
    """Memory of another library, by DLPack of the old kind or the new."""

    def __init__(self, x: np.ndarray[Any, np.dtype[Any]], versioned: bool) -> None:
        self.x, self.versioned = x, versioned

    def __dlpack_device__(self) -> tuple[int, int]:
        return 1, 0

    def __dlpack__(self, **options: Any) -> object:
        if options and not self.versioned:
            raise TypeError("unexpected keyword argument 'max_version'")
        return self.x.__dlpack__(**options)


@pytest.mark.parametrize(
    "wrap", [Interface, lambda x: Exporter(x, versioned=False), lambda x: Exporter(x, versioned=True)]
)
def test_producers(wrap: Callable[[Any], object], rng: np.random.Generator) -> None:
    x = rng.standard_normal((40, 50)).astype(np.float32)
    for view in (x, x.T, x[::2, 1:], x[::-1], x[:0]):
        assert tensometer.summarize(wrap(view), fingerprint=True) == tensometer.summarize(view, fingerprint=True)


def test_producers_that_fail() -> None:
    class Failing:
        def __dlpack__(self, **_: object) -> object:
            raise MemoryError("no room for an export")

        def __dlpack_device__(self) -> tuple[int, int]:
            return 1, 0

    with pytest.raises(MemoryError, match="no room for an export"):
        tensometer.summarize(Failing())


def test_nothing_is_kept(rng: np.random.Generator) -> None:
    class Owner(np.ndarray[Any, Any]):
        pass

    x = rng.standard_normal(5000).view(Owner)
    gone = weakref.ref(x)
    for call in (tensometer.summarize, tensometer.histogram, lambda y: tensometer.compare(y, y)):
        call(x)
    tensometer.summarize_many([x, x])
    with pytest.raises(ValueError, match="resolution"):
        tensometer.summarize(x, resolution=99)
    stream = tensometer.Accumulator().update(x)
    del x
    gc.collect()
    assert gone() is None
    assert stream.count == 5000
