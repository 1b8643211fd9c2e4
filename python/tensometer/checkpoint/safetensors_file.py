"""Reader of .safetensors: eight bytes of header length, a JSON header, one contiguous buffer of tensors."""

from pathlib import Path
from typing import Any

from tensometer.checkpoint.entry import (
    MAX_DIMENSIONS,
    MAX_TENSORS,
    NUMPY_DTYPES,
    CheckpointError,
    Entry,
    counted,
    element_count,
)
from tensometer.checkpoint.jsonwalk import JsonWalker
from tensometer.checkpoint.mapped import MappedFile
from tensometer.checkpoint.sources import MappedSource

# The format's own limit.
MAX_HEADER = 100_000_000
_MAX_SIZE = 2**63 - 1

# The format's dtypes: bits an element, and tensometer's name where it reads them.
_DTYPES: dict[str, tuple[int, str | None]] = {
    "BOOL": (8, "bool"),
    "F4": (4, None),
    "F6_E2M3": (6, None),
    "F6_E3M2": (6, None),
    "U8": (8, "uint8"),
    "I8": (8, "int8"),
    "F8_E5M2": (8, "float8_e5m2"),
    "F8_E4M3": (8, "float8_e4m3fn"),
    "F8_E5M2FNUZ": (8, "float8_e5m2fnuz"),
    "F8_E4M3FNUZ": (8, "float8_e4m3fnuz"),
    "F8_E8M0": (8, None),
    "I16": (16, "int16"),
    "U16": (16, "uint16"),
    "F16": (16, "float16"),
    "BF16": (16, "bfloat16"),
    "I32": (32, "int32"),
    "U32": (32, "uint32"),
    "F32": (32, "float32"),
    "C64": (64, "complex64"),
    "F64": (64, "float64"),
    "I64": (64, "int64"),
    "U64": (64, "uint64"),
}


def read_safetensors(path: Path) -> list[Entry]:
    """The tensors of one file, in the order of their bytes."""
    file = MappedFile(path)
    if file.size < 8:
        raise CheckpointError(
            path, f"has {counted(file.size, 'byte')}; a safetensors file begins with 8 bytes of header length"
        )
    length = int.from_bytes(file.map[:8], "little")
    if length > MAX_HEADER:
        raise CheckpointError(path, f"claims a header of {counted(length, 'byte')}; the format allows {MAX_HEADER}")
    if length > file.size - 8:
        raise CheckpointError(
            path, f"claims a header of {counted(length, 'byte')}; the file has {file.size - 8} after the length"
        )
    described = _describe(file, length)
    _check_cover(file, described, file.size - 8 - length)
    entries = [_entry(file, name, 8 + length, value) for name, value in described]
    file.close()
    return entries


# dtype, shape, begin, end
_Description = tuple[str, tuple[int, ...], int, int]


def _describe(file: MappedFile, length: int) -> list[tuple[str, _Description]]:
    walker = JsonWalker(file, 8, 8 + length)
    described: dict[str, _Description] = {}
    seen_metadata = False
    for name in walker.members():
        if name == "__metadata__":
            if seen_metadata:
                raise CheckpointError(file.path, "has two __metadata__ objects")
            seen_metadata = True
            for _ in walker.members():
                walker.skip_string()
            continue
        value = _description(file, name, walker.flat_object())
        if name in described:
            raise CheckpointError(file.path, f"lists tensor {name!r} twice")
        if len(described) == MAX_TENSORS:
            raise CheckpointError(file.path, f"lists more than {MAX_TENSORS} tensors")
        described[name] = value
    walker.end()
    return sorted(described.items(), key=lambda item: item[1][2:])


def _description(file: MappedFile, name: str, value: dict[str, Any]) -> _Description:
    dtype, shape, offsets = value.get("dtype"), value.get("shape"), value.get("data_offsets")
    if not isinstance(dtype, str) or dtype not in _DTYPES:
        raise CheckpointError(file.path, f"tensor {name!r} has the unknown dtype {dtype!r}")
    if not isinstance(shape, list) or not all(type(size) is int and 0 <= size <= _MAX_SIZE for size in shape):
        raise CheckpointError(file.path, f"the shape of tensor {name!r} is not a list of sizes from 0 to 2**63 - 1")
    if len(shape) > MAX_DIMENSIONS:
        raise CheckpointError(
            file.path, f"tensor {name!r} has {len(shape)} dimensions; at most {MAX_DIMENSIONS} are read"
        )
    if not isinstance(offsets, list) or len(offsets) != 2 or not all(type(at) is int and at >= 0 for at in offsets):
        raise CheckpointError(file.path, f"the data_offsets of tensor {name!r} are not two non-negative integers")
    begin, end = offsets
    bits = element_count(tuple(shape)) * _DTYPES[dtype][0]
    if bits != 8 * (end - begin):
        needed = f"{bits / 8} bytes" if bits % 8 else counted(bits // 8, "byte")
        raise CheckpointError(
            file.path,
            f"tensor {name!r} of dtype {dtype} and shape {shape} needs {needed}; "
            f"its data_offsets [{begin}, {end}] give {end - begin}",
        )
    return dtype, tuple(shape), begin, end


def _check_cover(file: MappedFile, described: list[tuple[str, _Description]], size: int) -> None:
    """The tensors follow each other without overlap or hole and fill the buffer, as the format demands."""
    reached = 0
    for name, (_, _, begin, end) in described:
        if end > size:
            raise CheckpointError(
                file.path,
                f"tensor {name!r} ends at byte {end} of a buffer of {counted(size, 'byte')} (a truncated file?)",
            )
        if begin < reached:
            raise CheckpointError(
                file.path, f"tensor {name!r} begins at byte {begin}, inside the tensor that ends at {reached}"
            )
        if begin > reached:
            raise CheckpointError(file.path, f"bytes {reached} to {begin} before tensor {name!r} belong to no tensor")
        reached = end
    if reached != size:
        raise CheckpointError(file.path, f"the tensors end at byte {reached} of a buffer of {counted(size, 'byte')}")


def _entry(file: MappedFile, name: str, base: int, value: _Description) -> Entry:
    dtype, shape, begin, end = value
    known = _DTYPES[dtype][1]
    if known is None:
        return Entry(name, str(file.path), dtype, shape, end - begin, None, f"dtype {dtype} is not supported")
    source = MappedSource(file, base + begin, NUMPY_DTYPES[known], shape)
    return Entry(name, str(file.path), known, shape, end - begin, source)
