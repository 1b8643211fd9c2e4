"""Elements of a tensor from a mapped file or from a stream, in windows of bounded size."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import IO

import numpy as np

from tensometer.checkpoint.entry import Bits, CheckpointError, RowsNotReadableError, element_count
from tensometer.checkpoint.mapped import MappedFile, reason


class MappedSource:
    """A C-contiguous tensor at an offset of a mapped file."""

    __slots__ = ("_begin", "_bits", "_end", "_file", "_rows")

    def __init__(self, file: MappedFile, offset: int, bits: np.dtype[np.generic], shape: tuple[int, ...]):
        self._file = file
        self._begin = offset
        self._end = offset + element_count(shape) * bits.itemsize
        self._bits = bits
        self._rows = shape[0] if shape else 1

    def _flat(self, first: int, last: int) -> Bits:
        return self._file.bytes[first:last].view(self._bits)

    def whole(self) -> Bits:
        """All elements; see Source."""
        return self._flat(self._begin, self._end)

    def windows(self, limit: int, *, logical: bool = False) -> Iterator[Bits]:
        """Pieces of at most `limit` bytes; see Source."""
        step = max(1, limit // self._bits.itemsize) * self._bits.itemsize
        for first in range(self._begin, self._end, step):
            last = min(first + step, self._end)
            self._file.prefetch(last, min(last + step, self._end))
            yield self._flat(first, last)
            self._file.release(first, last)

    def rows(self, limit: int, max_rows: int) -> Iterator[Bits]:
        """Pieces of whole rows; see Source."""
        nbytes = (self._end - self._begin) // self._rows
        if nbytes > limit:
            raise RowsNotReadableError(f"a row has {nbytes} bytes, more than {limit}")
        step = max(1, min(max_rows, limit // nbytes)) * nbytes
        for first in range(self._begin, self._end, step):
            last = min(first + step, self._end)
            yield self._flat(first, last).reshape((last - first) // nbytes, -1)
            self._file.release(first, last)

    def release(self) -> None:
        """Drop the tensor's pages from this process."""
        self._file.release(self._begin, self._end)

    def close(self) -> None:
        """Unmap the file; the next use maps it again."""
        self._file.close()


class StridedSource:
    """Any other view into a mapped file: transposed, sliced or expanded."""

    __slots__ = ("_bits", "_file", "_offset", "_shape", "_strides")

    def __init__(
        self,
        file: MappedFile,
        offset: int,
        bits: np.dtype[np.generic],
        shape: tuple[int, ...],
        strides: tuple[int, ...],
    ):
        self._file = file
        self._offset = offset
        self._bits = bits
        self._shape = shape
        self._strides = strides

    def _view(self) -> Bits:
        return np.ndarray(self._shape, self._bits, self._file.bytes, self._offset, self._strides)

    def whole(self) -> Bits:
        """All elements; see Source."""
        return self._view()

    def windows(self, limit: int, *, logical: bool = False) -> Iterator[Bits]:
        """Pieces of at most `limit` bytes; see Source."""
        for piece in _pieces(self._view() if logical else self._in_memory_order(), limit):
            yield piece
            self.release()

    def _in_memory_order(self) -> Bits:
        """A permutation of a contiguous tensor is read in memory order, as the numeric contract says."""
        view = self._view()
        order = sorted(range(view.ndim), key=lambda axis: (view.strides[axis], view.shape[axis]), reverse=True)
        permuted = view.transpose(order)
        return permuted.reshape(-1) if permuted.flags.c_contiguous else view

    def rows(self, limit: int, max_rows: int) -> Iterator[Bits]:
        """Pieces of whole rows; see Source."""
        view = self._view()
        if max(_span(view), view.nbytes) > limit:
            raise RowsNotReadableError(f"its rows are strided over more than {limit} bytes")
        view = view.reshape(self._shape[0], -1)
        for row in range(0, self._shape[0], max_rows):
            yield view[row : row + max_rows]
        self.release()

    def release(self) -> None:
        """Drop the tensor's pages from this process."""
        self._file.release(self._offset, self._offset + _span(self._view()))

    def close(self) -> None:
        """Unmap the file; the next use maps it again."""
        self._file.close()


def _span(view: Bits) -> int:
    """Bytes of the file between the first and the last element."""
    return sum((n - 1) * s for n, s in zip(view.shape, view.strides, strict=True)) + view.itemsize if view.size else 0


def _pieces(view: Bits, limit: int) -> Iterator[Bits]:
    """The view in logical order, cut so that no piece spans or holds more than `limit` bytes."""
    if view.ndim == 0 or (_span(view) <= limit and view.nbytes <= limit):
        yield view
        return
    inner = view[0]
    step = (limit - min(limit, _span(inner))) // view.strides[0] if view.strides[0] else view.shape[0]
    step = min(step, limit // max(1, inner.nbytes))
    if step:
        for first in range(0, view.shape[0], step):
            yield view[first : first + step]
    elif view.ndim == 1:
        for index in range(view.shape[0]):
            yield view[index : index + 1]
    else:
        for part in view:
            yield from _pieces(part, limit)


class StreamSource:
    """A tensor that can only be read from its beginning, such as a compressed member of an archive."""

    def __init__(
        self,
        open_stream: Callable[[], AbstractContextManager[IO[bytes]]],
        path: object,
        bits: np.dtype[np.generic],
        shape: tuple[int, ...],
        *,
        row_major: bool = True,
    ):
        self._open = open_stream
        self._path = path
        self._bits = bits
        self._shape = shape
        self._row_major = row_major

    def _read(self, step: int) -> Iterator[Bits]:
        left = element_count(self._shape) * self._bits.itemsize
        # What a decompressor raises on hostile bytes is not a closed list.
        try:
            with self._open() as stream:
                while left:
                    data = _exactly(stream, min(step, left))
                    if len(data) < min(step, left):
                        raise CheckpointError(self._path, f"ends {left - len(data)} bytes before the tensor does")
                    left -= len(data)
                    yield np.frombuffer(data, self._bits)
        except CheckpointError:
            raise
        except Exception as error:
            raise CheckpointError(self._path, f"cannot be decompressed: {reason(error)}") from error

    def whole(self) -> Bits:
        """All elements; see Source."""
        nbytes = element_count(self._shape) * self._bits.itemsize
        parts = list(self._read(max(1, nbytes)))
        return parts[0] if parts else np.empty(0, self._bits)

    def windows(self, limit: int, *, logical: bool = False) -> Iterator[Bits]:
        """Pieces of at most `limit` bytes; see Source."""
        yield from self._read(max(1, limit // self._bits.itemsize) * self._bits.itemsize)

    def rows(self, limit: int, max_rows: int) -> Iterator[Bits]:
        """Pieces of whole rows; see Source."""
        if not self._row_major:
            raise RowsNotReadableError("it is compressed in column order")
        nbytes = element_count(self._shape[1:]) * self._bits.itemsize
        if nbytes > limit:
            raise RowsNotReadableError(f"a row has {nbytes} bytes, more than {limit}")
        for part in self._read(max(1, min(max_rows, limit // nbytes)) * nbytes):
            yield part.reshape(-1, nbytes // self._bits.itemsize)

    def release(self) -> None:
        """Nothing is mapped."""

    def close(self) -> None:
        """Every pass opens and closes its own stream."""


def _exactly(stream: IO[bytes], size: int) -> bytes:
    parts = []
    while size:
        part = stream.read(size)
        if not part:
            break
        parts.append(part)
        size -= len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)
