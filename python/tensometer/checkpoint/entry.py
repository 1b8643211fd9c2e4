"""One tensor of a checkpoint: where it is and how its elements are read in bounded memory."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from tensometer.tensors import RawTensor

# Three times the tensors of the largest published checkpoints (about 92,000). It bounds what a hostile header can make
# a reader allocate: roughly one kilobyte a tensor.
MAX_TENSORS = 262_144
# The longest name a reader keeps. Published names stay under 200 bytes.
MAX_NAME_BYTES = 4096
# NumPy's own limit, so every shape can become an array.
MAX_DIMENSIONS = 64

Bits = npt.NDArray[np.generic]

# Bits of types that NumPy has no name for travel as unsigned integers of their size.
RAW_BITS: dict[str, np.dtype[np.generic]] = {
    "bfloat16": np.dtype("<u2"),
    "float8_e4m3fn": np.dtype("u1"),
    "float8_e5m2": np.dtype("u1"),
    "float8_e4m3fnuz": np.dtype("u1"),
    "float8_e5m2fnuz": np.dtype("u1"),
}
NUMPY_DTYPES: dict[str, np.dtype[np.generic]] = {
    name: np.dtype(name).newbyteorder("<")
    for name in (
        *("float64", "float32", "float16", "complex64", "complex128", "bool"),
        *("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
    )
} | RAW_BITS


class CheckpointError(ValueError):
    """A file of tensors cannot be read. The message is one sentence that begins with the file."""

    def __init__(self, path: object, sentence: str) -> None:
        super().__init__(printable(f"{path}: {sentence}"))


class RowsNotReadableError(Exception):
    """Rows of this tensor cannot be read in bounded memory; the message says why."""


class Source(Protocol):
    """The elements of one tensor. What is yielded is valid until the next one is asked for."""

    def whole(self) -> Bits:
        """All elements at once, for tensors known to be small."""

    def windows(self, limit: int, *, logical: bool = False) -> Iterator[Bits]:
        """All elements, in pieces of at most `limit` bytes (or one element): in memory order, or in C order."""

    def rows(self, limit: int, max_rows: int) -> Iterator[Bits]:
        """Rows along dimension 0, at most `limit` bytes and `max_rows` at a time; may raise RowsNotReadableError."""

    def release(self) -> None:
        """Give the memory behind the elements back to the operating system."""

    def close(self) -> None:
        """Close the file; reading opens it again."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A tensor as its file lists it. `source` is None and `skipped` says why where tensometer cannot read it."""

    name: str
    path: str
    dtype: str
    shape: tuple[int, ...]
    nbytes: int
    source: Source | None
    skipped: str = ""
    tied_to: str = ""


def as_tensor(bits: Bits, dtype: str) -> object:
    """Elements as the core accepts them: an array, or raw bits with the name of a type that NumPy lacks."""
    return RawTensor(bits, dtype) if dtype in RAW_BITS else bits


def element_count(shape: tuple[int, ...]) -> int:
    """Number of elements, exact however large the claimed shape is."""
    count = 1
    for size in shape:
        count *= size
    return count


def counted(count: int, noun: str) -> str:
    """A number with its noun."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def printable(text: str) -> str:
    """Text from a file, safe to show: control characters (a terminal would obey them) and surrogates are escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)
