"""Reader of .gguf: the tensors that are not quantised. Quantised ones are listed and skipped."""

import struct
from pathlib import Path

from tensometer.checkpoint.entry import (
    MAX_NAME_BYTES,
    MAX_TENSORS,
    NUMPY_DTYPES,
    CheckpointError,
    Entry,
    element_count,
)
from tensometer.checkpoint.mapped import MappedFile
from tensometer.checkpoint.sources import MappedSource

# The metadata holds the vocabulary, some ten megabytes at most, and is walked value by value.
_MAX_HEADER = 32 << 20
_MAX_DIMENSIONS = 4
_RELEASE_STEP = 4 << 20

_DTYPES = {
    0: "float32",
    1: "float16",
    24: "int8",
    25: "int16",
    26: "int32",
    27: "int64",
    28: "float64",
    30: "bfloat16",
}
# Sizes of the metadata's scalar types; 8 is a string, 9 an array.
_SCALAR_SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
_STRING, _ARRAY, _UINT32 = 8, 9, 4


class _Cursor:
    """A position in the header; every step is checked against the file."""

    def __init__(self, file: MappedFile) -> None:
        self.file = file
        self.position = 0
        self._released = 0

    def skip(self, size: int) -> int:
        """Step over `size` bytes; returns where they begin."""
        begin = self.position
        if begin + size > min(self.file.size, _MAX_HEADER):
            limit = min(self.file.size, _MAX_HEADER)
            raise CheckpointError(
                self.file.path, f"its header claims {size} bytes at byte {begin}; it may end at byte {limit} at most"
            )
        self.position = begin + size
        if self.position - self._released > _RELEASE_STEP:
            self.file.release(self._released, begin)
            self._released = begin
        return begin

    def u32(self) -> int:
        """The 32-bit number here."""
        return int(struct.unpack_from("<I", self.file.map, self.skip(4))[0])

    def u64(self) -> int:
        """The 64-bit number here."""
        return int(struct.unpack_from("<Q", self.file.map, self.skip(8))[0])

    def name(self) -> str:
        """The string here, if it is short enough to be a name."""
        size = self.u64()
        if size > MAX_NAME_BYTES:
            raise CheckpointError(self.file.path, f"has a name of {size} bytes; at most {MAX_NAME_BYTES} are read")
        begin = self.skip(size)
        try:
            return self.file.map[begin : begin + size].decode()
        except UnicodeDecodeError as error:
            raise CheckpointError(self.file.path, f"the name at byte {begin} is not UTF-8") from error

    def skip_value(self, kind: int) -> None:
        """Step over a metadata value of the type `kind`."""
        if kind == _STRING:
            self.skip(self.u64())
        elif kind == _ARRAY:
            inner, count = self.u32(), self.u64()
            if inner == _STRING:
                for _ in range(count):
                    self.skip(self.u64())
            else:
                self.skip(count * self._scalar(inner))
        else:
            self.skip(self._scalar(kind))

    def _scalar(self, kind: int) -> int:
        if kind not in _SCALAR_SIZES:
            raise CheckpointError(self.file.path, f"has a metadata value of the unknown type {kind}")
        return _SCALAR_SIZES[kind]


def read_gguf(path: Path) -> list[Entry]:
    """The tensors of one file, in the order of its header."""
    file = MappedFile(path)
    cursor = _Cursor(file)
    if file.map[:4] != b"GGUF":
        raise CheckpointError(path, "does not begin with GGUF")
    cursor.skip(4)
    version = cursor.u32()
    if version not in (2, 3):
        raise CheckpointError(path, f"has version {version} of the format; 2 and 3 (little-endian) are read")
    tensors, values = cursor.u64(), cursor.u64()
    if tensors > MAX_TENSORS:
        raise CheckpointError(path, f"lists {tensors} tensors; at most {MAX_TENSORS} are read")
    alignment = _alignment(cursor, values)
    described = [_describe(cursor) for _ in range(tensors)]
    if len({name for name, *_ in described}) != len(described):
        raise CheckpointError(path, "lists two tensors of the same name")
    base = cursor.position + -cursor.position % alignment
    entries = [_entry(file, base, *description) for description in described]
    _check_overlap(file, base, described, entries)
    file.close()
    return entries


def _alignment(cursor: _Cursor, values: int) -> int:
    alignment = 32
    for _ in range(values):
        key, kind = cursor.name(), cursor.u32()
        if key == "general.alignment" and kind == _UINT32:
            alignment = cursor.u32()
            if alignment == 0 or alignment & (alignment - 1):
                raise CheckpointError(cursor.file.path, f"has the alignment {alignment}, which is no power of two")
        else:
            cursor.skip_value(kind)
    return alignment


def _describe(cursor: _Cursor) -> tuple[str, tuple[int, ...], int, int]:
    """Name, shape, type, offset."""
    name, dimensions = cursor.name(), cursor.u32()
    if dimensions > _MAX_DIMENSIONS:
        raise CheckpointError(
            cursor.file.path, f"tensor {name!r} has {dimensions} dimensions; the format allows {_MAX_DIMENSIONS}"
        )
    # The format writes the fastest dimension first.
    shape = tuple(reversed([cursor.u64() for _ in range(dimensions)]))
    return name, shape, cursor.u32(), cursor.u64()


def _entry(file: MappedFile, base: int, name: str, shape: tuple[int, ...], kind: int, offset: int) -> Entry:
    if base + offset > file.size:
        raise CheckpointError(
            file.path, f"tensor {name!r} begins at byte {base + offset} of a file of {file.size} bytes"
        )
    dtype = _DTYPES.get(kind)
    if dtype is None:
        return Entry(name, str(file.path), f"ggml type {kind}", shape, 0, None, f"is quantised (ggml type {kind})")
    nbytes = element_count(shape) * NUMPY_DTYPES[dtype].itemsize
    if base + offset + nbytes > file.size:
        raise CheckpointError(
            file.path, f"tensor {name!r} ends at byte {base + offset + nbytes} of a file of {file.size} bytes"
        )
    source = MappedSource(file, base + offset, NUMPY_DTYPES[dtype], shape)
    return Entry(name, str(file.path), dtype, shape, nbytes, source)


def _check_overlap(
    file: MappedFile, base: int, described: list[tuple[str, tuple[int, ...], int, int]], entries: list[Entry]
) -> None:
    pairs = zip(described, entries, strict=True)
    places = sorted((base + offset, entry.nbytes, entry.name) for (*_, offset), entry in pairs)
    reached = 0
    for begin, nbytes, name in places:
        if begin < reached:
            raise CheckpointError(
                file.path, f"tensor {name!r} begins at byte {begin}, inside the tensor that ends at {reached}"
            )
        reached = begin + nbytes
