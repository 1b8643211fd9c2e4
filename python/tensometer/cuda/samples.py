"""Random tensors for the self-test, each told by its seed and number: every dtype, length, layout and kind of value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from tensometer import _core
from tensometer.tensors import RawTensor

Array = np.ndarray[Any, Any]

# How NumPy holds the bits of what it has no type for.
_CARRIERS: dict[str, np.dtype[Any]] = {
    "bfloat16": np.dtype(np.uint16),
    **{name: np.dtype(np.uint8) for name in _core.dtypes() if name.startswith("float8")},
}
# Of the types without one in NumPy: NaN, infinities, both zeros, largest, smallest, sub-normals.
_SPECIAL_BITS = {
    "bfloat16": (0x7FC0, 0xFFC1, 0x7F80, 0xFF80, 0x0000, 0x8000, 0x7F7F, 0xFF7F, 0x0001, 0x807F),
    "float8_e4m3fn": (0x7F, 0xFF, 0x00, 0x80, 0x7E, 0xFE, 0x01, 0x87),
    "float8_e5m2": (0x7F, 0xFD, 0x7C, 0xFC, 0x00, 0x80, 0x7B, 0xFB, 0x01, 0x83),
    "float8_e4m3fnuz": (0x80, 0x00, 0x7F, 0xFF, 0x01, 0x87),
    "float8_e5m2fnuz": (0x80, 0x00, 0x7F, 0xFF, 0x01, 0x83),
}
_LARGEST_BITS = {
    "bfloat16": (0x7F7F, 0xFF7F),
    "float8_e4m3fn": (0x7E, 0xFE),
    "float8_e5m2": (0x7B, 0xFB),
    "float8_e4m3fnuz": (0x7F, 0xFF),
    "float8_e5m2fnuz": (0x7F, 0xFF),
}
_BLOCK = 4096
_ROOM = 64  # bytes before and behind the elements


@dataclass(frozen=True)
class Sample:
    """Bytes, and a tensor that is some of them. view: the elements, or their bits where NumPy lacks the dtype."""

    name: str
    dtype: str
    data: Array
    view: Array

    @property
    def offset(self) -> int:
        """Bytes before the first element."""
        return int(self.view.__array_interface__["data"][0] - self.data.__array_interface__["data"][0])

    def host(self) -> object:
        """The tensor in CPU memory."""
        return RawTensor(self.view, self.dtype) if self.dtype in _CARRIERS else self.view

    def filled(self, value: int) -> Sample:
        """The same tensor after all of its bytes became this one."""
        return self.over(np.full_like(self.data, value), f"{self.name}, all bytes {value}")

    def changed(self, rng: np.random.Generator) -> Sample:
        """The same tensor with about every fourth byte replaced by another of its bytes."""
        chosen = rng.random(self.data.size) < 0.25
        return self.over(np.where(chosen, rng.permutation(self.data), self.data), f"{self.name}, changed")

    def over(self, data: Array, name: str) -> Sample:
        """The same layout over other bytes."""
        view = np.ndarray(self.view.shape, self.view.dtype, data.data, self.offset, self.view.strides)
        return Sample(name, self.dtype, data, view)


def carrier(dtype: str) -> np.dtype[Any]:
    """What NumPy holds elements of a dtype as."""
    return _CARRIERS.get(dtype) or np.dtype(dtype)


def special_values(dtype: str) -> Array:
    """Values at which comparisons, sums and exponents have edges."""
    kind = carrier(dtype)
    if dtype in _SPECIAL_BITS:
        return np.array(_SPECIAL_BITS[dtype], kind)
    if kind.kind == "b":
        return np.array([False, True])
    if kind.kind in "iu":
        limits = np.iinfo(kind)
        return np.array([limits.min, limits.max, 0, limits.min + 1, limits.max - 1], kind)
    real = np.dtype(f"f{kind.itemsize // 2}") if kind.kind == "c" else kind
    limit = np.finfo(real)
    edges = (np.nan, -np.nan, np.inf, -np.inf, 0.0, -0.0, limit.max, limit.min, limit.smallest_subnormal, limit.tiny)
    values = np.array(edges, real)
    return _complex(values, np.roll(values, 3), kind) if kind.kind == "c" else values


def extreme_values(dtype: str) -> Array:
    """The largest and the smallest finite value."""
    kind = carrier(dtype)
    if dtype in _LARGEST_BITS:
        return np.array(_LARGEST_BITS[dtype], kind)
    if kind.kind == "b":
        return np.array([True, False])
    limits = np.iinfo(kind) if kind.kind in "iu" else np.finfo(kind)
    return np.array([limits.max, limits.min], kind)


def ordinary_values(rng: np.random.Generator, dtype: str, count: int) -> Array:
    """Values such as weights have, or counts, of a random size."""
    kind = carrier(dtype)
    if kind.kind == "b":
        return rng.integers(0, 2, count).astype(kind)
    if dtype.startswith("float8"):
        bits: Array = rng.integers(0x18, 0x58, count, np.uint8) | (rng.integers(0, 2, count, np.uint8) << 7)
        return bits
    values = rng.standard_normal(count) * 2.0 ** rng.integers(-8, 5)
    if dtype == "bfloat16":
        return (values.astype(np.float32).view(np.uint32) >> 16).astype(np.uint16)
    if kind.kind in "iu":
        whole = np.clip(np.rint(values * 16), -128, 127)
        return (np.abs(whole) if kind.kind == "u" else whole).astype(kind)
    if kind.kind == "c":
        return _complex(values, rng.standard_normal(count), kind)
    return values.astype(kind)


def sample(seed: int, number: int, largest: int) -> Sample:
    """The tensor of this number, of at most about `largest` elements."""
    rng = np.random.default_rng([seed, number])
    names = _core.dtypes()
    dtype = names[number % len(names)]
    length = _length(rng, largest)
    content = ("bits", "ordinary", "special")[int(rng.integers(3))]
    elements = _content(rng, dtype, content, length)
    size = elements.itemsize
    # Of what NumPy lacks there are only views that torch can have.
    aligned = dtype in _CARRIERS or rng.random() < 0.5
    offset = int(rng.integers(_ROOM // size)) * size if aligned else int(rng.integers(_ROOM))
    data = np.zeros(2 * _ROOM + elements.nbytes, np.uint8)
    data[offset : offset + elements.nbytes] = elements.view(np.uint8)
    flat: Array = np.ndarray(length, elements.dtype, data.data, offset)
    layout, view = _layout(rng, flat, reversible=dtype not in _CARRIERS)
    name = f"tensor {number} ({dtype}, {layout}, shape {view.shape}, {content}, byte offset {offset})"
    return Sample(name, dtype, data, view)


def positions(seed: int, dtype: str, rows: int, extremes: bool) -> Sample:
    """Rows of a block each, in which every special value stands somewhere else; at every place, if there are 4096.

    extremes: only the largest and smallest value, which would hide each other's place among the rest.
    """
    rng = np.random.default_rng([seed, rows, int(extremes)])
    values = extreme_values(dtype) if extremes else special_values(dtype)
    matrix = np.tile(ordinary_values(rng, dtype, _BLOCK), (rows, 1))
    number = np.arange(rows)
    for i, value in enumerate(values):
        matrix[number, (number * max(1, _BLOCK // rows) + 577 * i) % _BLOCK] = value
    kind = "extremes" if extremes else "special values"
    return dense(f"{dtype}: {kind} at {rows} positions of a block", dtype, matrix)


def dense(name: str, dtype: str, values: Array) -> Sample:
    """An array as it is, nothing around it."""
    data = np.ascontiguousarray(values).reshape(-1).view(np.uint8)
    return Sample(name, dtype, data, np.ndarray(values.shape, values.dtype, data.data))


def patterns(dtype: str) -> Sample:
    """All bit patterns of a type of one or two bytes."""
    kind = carrier(dtype)
    count = 2 if kind.kind == "b" else 1 << 8 * kind.itemsize
    return dense(f"{dtype}: all bit patterns", dtype, np.arange(count, dtype=f"u{kind.itemsize}").view(kind))


def _complex(real: Array, imaginary: Array, kind: np.dtype[Any]) -> Array:
    parts = np.stack([real, imaginary], axis=-1).astype(f"f{kind.itemsize // 2}")
    return parts.view(kind)[..., 0]


def _length(rng: np.random.Generator, largest: int) -> int:
    choice = rng.random()
    if choice < 0.15:
        return int(rng.integers(0, 130))
    if choice < 0.75:
        return min(int(rng.integers(0, 3 * _BLOCK + 4)), largest)
    return int(2 ** rng.uniform(0, np.log2(largest)))


def _content(rng: np.random.Generator, dtype: str, content: str, length: int) -> Array:
    kind = carrier(dtype)
    if content == "bits" and kind.kind != "b":
        return rng.integers(0, 256, length * kind.itemsize, np.uint8).view(kind)
    elements = ordinary_values(rng, dtype, length)
    if content == "special" and length:
        places = rng.integers(0, length, 1 + length // 200)
        elements[places] = rng.choice(special_values(dtype), len(places))
    return elements


def _layout(rng: np.random.Generator, flat: Array, reversible: bool) -> tuple[str, Array]:
    """A view of the elements as some tensors are: not all of them, nor in their order."""
    if flat.size < 16:
        return "flat", flat
    width = int(rng.integers(1, min(flat.size, 300)))
    rows = flat[: flat.size // width * width].reshape(-1, width)
    half = rows[: len(rows) // 2 * 2].reshape(2, -1, width)
    views = {
        "flat": flat,
        "rows": rows,
        "transposed": rows.T,
        "permuted": half.transpose(2, 0, 1),
        "every second": flat[::2],
        "cut": rows[:, : (width + 1) // 2],
        "one column": rows[:, 0],
        "repeated": np.broadcast_to(rows[:1], (3, width)),
        "empty": rows[:0],
    }
    if reversible:
        views |= {"reversed": flat[::-1], "reversed rows": rows[::-1, ::-1]}
    layout = str(rng.choice(list(views)))
    return layout, views[layout]
