"""Readers of .npy and .npz: NumPy's own header parser on a bounded prefix, then the mapped or streamed bytes."""

import io
import warnings
from functools import partial
from pathlib import Path

import numpy as np

from tensometer.checkpoint.entry import (
    MAX_DIMENSIONS,
    MAX_TENSORS,
    NUMPY_DTYPES,
    RAW_BITS,
    CheckpointError,
    Entry,
    Source,
    counted,
    element_count,
    printable,
)
from tensometer.checkpoint.mapped import MappedFile, reason
from tensometer.checkpoint.sources import MappedSource, StreamSource, StridedSource
from tensometer.checkpoint.zipped import Member, decompressed, members

# NumPy refuses headers beyond 10,000 characters itself (max_header_size); a little more than that is ever read.
_PREFIX = 12_288
_NAMES = {dtype: name for name, dtype in NUMPY_DTYPES.items() if name not in RAW_BITS}


class _Header:
    """What precedes the bytes of an array."""

    def __init__(self, path: Path, what: str, prefix: bytes) -> None:
        stream = io.BytesIO(prefix)
        try:
            version = np.lib.format.read_magic(stream)
            # Version 3 differs from 2 only in the encoding of field names, which are not read here.
            read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            if version not in ((1, 0), (2, 0), (3, 0)):
                raise ValueError(f"version {version[0]}.{version[1]} of the format is unknown")
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                shape, self.fortran, dtype = read(stream)
        # NumPy evaluates a literal; what that raises on hostile text is not a closed list.
        except Exception as error:
            raise CheckpointError(path, f"{what} has no valid npy header: {printable(reason(error))}") from error
        if len(shape) > MAX_DIMENSIONS or any(type(size) is not int or not 0 <= size < 2**63 for size in shape):
            raise CheckpointError(path, f"{what} has the impossible shape {str(shape)[:80]}")
        self.shape: tuple[int, ...] = shape
        self.dtype: np.dtype[np.generic] = dtype
        self.length = stream.tell()
        self.nbytes = element_count(self.shape) * self.dtype.itemsize

    @property
    def name(self) -> str | None:
        """tensometer's name of the type, if it has one."""
        return None if self.dtype.hasobject else _NAMES.get(self.dtype.newbyteorder("<"))

    @property
    def row_major(self) -> bool:
        """Whether the bytes are in C order."""
        return not self.fortran or sum(size != 1 for size in self.shape) < 2

    def strides(self) -> tuple[int, ...]:
        """Strides of the column order."""
        stride, strides = self.dtype.itemsize, []
        for size in self.shape:
            strides.append(stride)
            stride *= size
        return tuple(strides)


def read_npy(path: Path) -> list[Entry]:
    """The one array of the file, named like the file."""
    file = MappedFile(path)
    entries = [_mapped(file, printable(path.stem), "the file", 0, file.size)]
    file.close()
    return entries


def read_npz(path: Path) -> list[Entry]:
    """The arrays of the archive: stored ones are mapped, compressed ones are streamed."""
    file = MappedFile(path)
    found = members(file)
    if len(found) > MAX_TENSORS:
        raise CheckpointError(path, f"has {len(found)} members; at most {MAX_TENSORS} are read")
    entries = [_member(file, member) for member in found]
    file.close()
    return entries


def _member(file: MappedFile, member: Member) -> Entry:
    name = member.name.removesuffix(".npy")
    what = f"member {member.name!r}"
    if name == member.name:
        return Entry(name, str(file.path), "", (), 0, None, "is not an array (.npy)")
    if member.stored:
        return _mapped(file, name, what, member.offset, member.size)

    with decompressed(file.path, member) as stream:
        header = _Header(file.path, what, stream.read(_PREFIX))
    if header.name is None:
        return _skipped(file, name, header)
    if header.nbytes != member.size - header.length:
        raise _wrong_size(file, what, header, member.size)
    open_data = partial(decompressed, file.path, member, header.length)
    source = StreamSource(open_data, file.path, header.dtype, header.shape, row_major=header.row_major)
    return Entry(name, str(file.path), header.name, header.shape, header.nbytes, source)


def _mapped(file: MappedFile, name: str, what: str, offset: int, size: int) -> Entry:
    header = _Header(file.path, what, file.map[offset : offset + min(size, _PREFIX)])
    if header.name is None:
        return _skipped(file, name, header)
    if header.nbytes != size - header.length:
        raise _wrong_size(file, what, header, size)
    start = offset + header.length
    source: Source
    if header.row_major:
        source = MappedSource(file, start, header.dtype, header.shape)
    else:
        source = StridedSource(file, start, header.dtype, header.shape, header.strides())
    return Entry(name, str(file.path), header.name, header.shape, header.nbytes, source)


def _wrong_size(file: MappedFile, what: str, header: _Header, size: int) -> CheckpointError:
    return CheckpointError(
        file.path,
        f"{what} has {counted(size - header.length, 'byte')} after its header; "
        f"shape {header.shape} of {header.dtype} needs {header.nbytes}",
    )


def _skipped(file: MappedFile, name: str, header: _Header) -> Entry:
    why = (
        "holds Python objects, which are never unpickled"
        if header.dtype.hasobject
        else (f"dtype {printable(str(header.dtype))[:80]} is not supported")
    )
    return Entry(name, str(file.path), printable(str(header.dtype))[:80], header.shape, 0, None, why)
