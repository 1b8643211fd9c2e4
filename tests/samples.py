"""Data for the tests: every dtype, and the kinds of values that have gone wrong somewhere."""

import pickle
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt
import tensometer
from hypothesis import settings

Array = npt.NDArray[Any]

DTYPES: dict[str, np.dtype[Any]] = {
    name: np.dtype(getattr(ml_dtypes, name)) if hasattr(ml_dtypes, name) else np.dtype(name)
    for name in tensometer.dtypes()
}
ONE_BYTE = [name for name, dtype in DTYPES.items() if dtype.itemsize == 1]
REAL = [name for name in DTYPES if not name.startswith("complex")]
FLOATING = [name for name in REAL if "float" in name]
INTEGER = [name for name in REAL if "float" not in name]
# Raised or lowered by nothing in the environment: the same examples in every run, on machines of any speed.
STEADY = settings(derandomize=True, deadline=None, max_examples=60)

KINDS = ("normal", "bits", "huge", "tiny", "holes", "constant", "shifted")


def sample(rng: np.random.Generator, name: str, size: int, kind: str = "normal") -> Array:
    """Elements of a dtype. Every kind is defined for every dtype; narrow ones saturate or round as their casts do."""
    dtype = DTYPES[name]
    if kind == "bits":
        return bit_patterns(rng, name, size)
    if dtype.kind in "biu":
        return _integers(rng, dtype, size, kind)
    if dtype.kind == "c":
        part = np.dtype(f"f{dtype.itemsize // 2}")
        re, im = (_floats(rng, part, size, kind) for _ in range(2))
        return (re + 1j * np.nan_to_num(im)).astype(dtype)
    return _floats(rng, dtype, size, kind)


def bit_patterns(rng: np.random.Generator, name: str, size: int) -> Array:
    """Uniform over bit patterns: NaN, infinities, sub-normals and every exponent (only 0 and 1 for bool)."""
    dtype = DTYPES[name]
    if dtype == np.bool_:
        return rng.integers(0, 2, size).astype(np.bool_)
    return np.frombuffer(rng.bytes(size * dtype.itemsize), np.uint8).view(dtype)


def _integers(rng: np.random.Generator, dtype: np.dtype[Any], size: int, kind: str) -> Array:
    if dtype == np.bool_:
        return rng.random(size) < {"constant": 2, "tiny": 0.01}.get(kind, 0.5)
    info = np.iinfo(dtype)
    if kind == "huge":
        return rng.choice(np.array([info.min, info.min + 1, info.max - 1, info.max], dtype), size)
    if kind == "constant":
        return np.full(size, info.max, dtype)
    if kind == "shifted":
        return (info.max - rng.integers(0, 9, size, dtype)).astype(dtype)
    low, high = (-3 if info.min < 0 else 0, 3) if kind in ("tiny", "holes") else (info.min // 2, info.max // 2)
    return rng.integers(low, high, size, dtype)


def _floats(rng: np.random.Generator, dtype: np.dtype[Any], size: int, kind: str) -> Array:
    finite = ml_dtypes.finfo(dtype) if dtype.kind == "V" or dtype.num >= 256 else np.finfo(dtype)
    largest, smallest = float(finite.max), float(finite.smallest_subnormal)
    x = rng.standard_normal(size)
    if kind == "huge":
        x = np.clip(x, -1, 1) * largest
    elif kind == "tiny":
        x = x * 8 * smallest
    elif kind == "constant":
        x = np.full(size, 0.1)
    elif kind == "shifted":
        x = x * 1e-3 + 3.0
    x = x.astype(dtype)
    if kind == "holes" and size:
        values = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0]).astype(dtype)
        if dtype.name.endswith(("fn", "fnuz")):
            values[1:3] = np.array([largest, -largest]).astype(dtype)
        at = rng.random(size) < 0.2
        x[at] = rng.choice(values, int(at.sum()))
    return x


def independent(x: Array) -> Array:
    """Values as float64, by NumPy's and ml_dtypes' own casts."""
    with np.errstate(invalid="ignore"):
        return x.astype(np.float64)


def bits(x: object, threads: int | None) -> bytes:
    """All that is known of a tensor, made by so many threads."""
    return pickle.dumps(tensometer.summarize(x, histogram=True, fingerprint=True, threads=threads))
