"""Every bit pattern of the narrow types, every spelling of a dtype, and whole numbers that float64 cannot hold."""

import math
from fractions import Fraction
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import tensometer
import torch
from contract import bits as bits_expected
from contract import bits_of, statistics
from references import assert_root, assert_within, exact
from samples import DTYPES, FLOATING, ONE_BYTE, REAL, independent, sample
from tensometer.tensors import RawTensor

Array = np.ndarray[Any, np.dtype[Any]]

TORCH = {
    name: getattr(torch, name) for name in DTYPES if name not in ("complex64", "complex128") and hasattr(torch, name)
}
TWO_BYTES = [name for name, dtype in DTYPES.items() if dtype.itemsize == 2]


def all_patterns(name: str) -> Array:
    dtype = DTYPES[name]
    if name == "bool":
        return np.array([False, True])
    return np.arange(1 << (8 * dtype.itemsize), dtype=f"u{dtype.itemsize}").view(dtype)


def same(a: float, b: float) -> bool:
    return a == b or (math.isnan(a) and math.isnan(b))


@pytest.mark.parametrize("name", TWO_BYTES + ONE_BYTE)
def test_every_pattern_alone(name: str, isa: str) -> None:
    """A unit of one element says what the element is: the value, its class, its sign."""
    x = all_patterns(name)
    value = independent(x)
    table = tensometer.summarize_units(x.reshape(-1, 1), 0)
    finite = np.isfinite(value)
    nothing = np.where(finite, value, np.nan)
    for column in ("min", "max", "mean"):
        np.testing.assert_array_equal(table.column(column).astype(np.float64), nothing)
    np.testing.assert_array_equal(table.column("sum"), np.where(finite, value, 0))
    for column in ("l1", "l2", "linf"):
        np.testing.assert_array_equal(table.column(column), np.where(finite, np.abs(value), 0))
    np.testing.assert_array_equal(table.column("var"), np.where(finite, 0, np.nan))
    np.testing.assert_array_equal(table.column("nan"), np.isnan(value))
    np.testing.assert_array_equal(table.column("posinf"), value == np.inf)
    np.testing.assert_array_equal(table.column("neginf"), value == -np.inf)
    np.testing.assert_array_equal(table.column("zeros"), value == 0)
    np.testing.assert_array_equal(table.column("negatives"), finite & (value < 0))


@pytest.mark.parametrize("name", TWO_BYTES + ONE_BYTE)
def test_every_pattern_together(name: str, isa: str, rng: np.random.Generator) -> None:
    x = rng.permutation(all_patterns(name))
    reference = exact(independent(x) if name in FLOATING else x)
    s = tensometer.summarize(x, histogram=True)
    assert (s.count, s.zeros, s.negatives, s.nan, s.posinf, s.neginf) == (
        reference.count,
        reference.zeros,
        reference.negatives,
        reference.nan,
        reference.posinf,
        reference.neginf,
    )
    assert (Fraction(s.min), Fraction(s.max)) == (reference.low, reference.high)
    assert s.histogram is not None
    assert s.histogram.total == reference.finite
    assert bits_of(s) == bits_expected(statistics(x))


@pytest.mark.parametrize("name", DTYPES)
def test_dtype_names(name: str, rng: np.random.Generator) -> None:
    s = tensometer.summarize(sample(rng, name, 20))
    assert (s.dtype, s.shape) == (name, (20,))
    assert tensometer.Accumulator(name).dtype == name
    assert tensometer.Accumulator(DTYPES[name]).dtype == name  # type: ignore[arg-type]


@pytest.mark.parametrize("name", TORCH)
def test_torch_and_numpy_agree(name: str, rng: np.random.Generator) -> None:
    x = sample(rng, name, 9001, "bits").copy()  # torch wants memory that may be written
    tensor = torch.from_numpy(x.view(f"u{x.itemsize}" if x.dtype.kind != "b" else bool)).view(TORCH[name])
    expected = tensometer.summarize(x, histogram=True, fingerprint=True)
    assert tensometer.summarize(tensor, histogram=True, fingerprint=True) == expected
    assert tensometer.Accumulator(TORCH[name]).update(tensor).summary() == tensometer.summarize(x)


@pytest.mark.parametrize("name", ["complex64", "complex128"])
def test_torch_complex(name: str, rng: np.random.Generator) -> None:
    x = sample(rng, name, 9001)
    assert tensometer.summarize(torch.from_numpy(x)) == tensometer.summarize(x)


@pytest.mark.parametrize("name", DTYPES)
def test_raw_bits_and_big_endian(name: str, rng: np.random.Generator) -> None:
    x = sample(rng, name, 5003, "holes")
    expected = tensometer.summarize(x, histogram=True, fingerprint=True)
    if x.itemsize <= 8:
        raw = RawTensor(x.view(f"u{x.itemsize}"), name)
        assert tensometer.summarize(raw, histogram=True, fingerprint=True) == expected
    if x.dtype.num < 256:  # ml_dtypes has no other byte order
        swapped = x.astype(x.dtype.newbyteorder(">"))
        assert tensometer.summarize(swapped, histogram=True, fingerprint=True) == expected
        assert tensometer.summarize(swapped[::3]) == tensometer.summarize(x[::3])


def test_raw_bits_of_another_size() -> None:
    with pytest.raises(ValueError, match="x: bfloat16 has 2 bytes an element, its data 1"):
        tensometer.summarize(RawTensor(np.zeros(3, np.uint8), "bfloat16"))
    with pytest.raises(TypeError, match="x: dtype 'float7' cannot be summarized; dtypes are float64, "):
        tensometer.summarize(RawTensor(np.zeros(3, np.uint8), "float7"))


@pytest.mark.parametrize("name", ["int64", "uint64"])
def test_64_bit_extremes_are_exact(name: str, isa: str, rng: np.random.Generator) -> None:
    info = np.iinfo(name)
    for low, high in ((info.min, info.max), (info.max - 1, info.max), (info.min, info.min + 1), (2**53, 2**53 + 1)):
        for size in (2, 100, 5000, 300_000):
            x = rng.choice(np.array([low, high], name), size)
            x[:2] = low, high
            s = tensometer.summarize(x)
            assert (s.min, s.max, type(s.min)) == (low, high, int)
            merged = tensometer.summarize(x[:1]).merge(tensometer.summarize(x[1:]))
            assert (merged.min, merged.max) == (low, high)
            reference = exact(x)
            assert_within(s.mean, reference.mean, 1e-8 * math.sqrt(reference.variance()) + 2.0**-52 * abs(s.mean))


@pytest.mark.parametrize("name", ["complex64", "complex128"])
def test_complex_numbers_count_by_magnitude(name: str, isa: str) -> None:
    x = np.array([3 + 4j, -6 + 8j, 0, complex(0, -0.0), 5j], name)
    s = tensometer.summarize(x)
    assert (s.min, s.max, s.zeros, s.negatives, s.l1, s.mean) == (0, 10, 2, 0, 20, 4)
    parts = [(math.inf, math.nan), (math.nan, 1), (1, -math.inf), (math.nan, 0)]
    odd = np.array([complex(*pair) for pair in parts], name)
    s = tensometer.summarize(odd)
    assert (s.nan, s.posinf, s.neginf, s.nonfinite) == (2, 2, 0, 4)


@pytest.mark.parametrize(("name", "scale"), [("complex64", 1e38), ("complex64", 1e-40), ("complex128", 1e300)])
def test_complex_norms_at_the_ends_of_the_range(name: str, scale: float, rng: np.random.Generator) -> None:
    x = ((rng.random(5000) + 1j * rng.random(5000)) * scale).astype(name)
    parts = exact(np.concatenate([x.real, x.imag]).astype(np.float64))
    assert_root(tensometer.summarize(x).l2, parts.squares, 1e-12)


@pytest.mark.parametrize("name", REAL)
def test_one_element(name: str, isa: str) -> None:
    x = np.ones(1).astype(DTYPES[name])
    s = tensometer.summarize(x)
    assert (s.min, s.max, s.mean, s.sum, s.l1, s.l2, s.linf, s.rms, s.var, s.std) == (1,) * 8 + (0, 0)
    assert isinstance(s.min, float if name in FLOATING else int)


UNSUPPORTED = {
    "longdouble": np.zeros(3, np.longdouble),
    "clongdouble": np.zeros(3, np.clongdouble),
    "object": np.array([1, None], object),
    "str": np.array(["a", "bc"]),
    "bytes": np.array([b"a", b"bc"]),
    "datetime": np.zeros(3, "M8[s]"),
    "timedelta": np.zeros(3, "m8[s]"),
    "structured": np.zeros(3, [("a", "f4"), ("b", "i4")]),
    "void": np.zeros(3, "V4"),
    "int4": np.zeros(3, ml_dtypes.int4),
    "float4": np.zeros(3, ml_dtypes.float4_e2m1fn),
    "float8_e8m0": np.zeros(3, ml_dtypes.float8_e8m0fnu),
    "float8_e4m3b11fnuz": np.zeros(3, ml_dtypes.float8_e4m3b11fnuz),
}


@pytest.mark.parametrize("x", UNSUPPORTED.values(), ids=UNSUPPORTED)
def test_other_dtypes_are_refused(x: Array) -> None:
    with pytest.raises(TypeError, match=r"x: dtype .* cannot be summarized; dtypes are float64, .*complex128"):
        tensometer.summarize(x)


# torch warns that these types are young, or old.
@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("dtype", [torch.complex32, torch.quint8])
def test_other_torch_dtypes_are_refused(dtype: torch.dtype) -> None:
    if dtype is torch.quint8:
        x = torch.quantize_per_tensor(torch.ones(3), 0.1, 0, dtype)
    else:
        x = torch.zeros(3, dtype=dtype)
    with pytest.raises(TypeError, match="x: dtype"):
        tensometer.summarize(x)
