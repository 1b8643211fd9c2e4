"""A file mapped into memory, of which only the pages in use stay resident."""

import mmap
import stat
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tensometer.checkpoint.entry import CheckpointError

# Every call that drops pages interrupts the other cores, at 30 microseconds or more; 8 MB hold 2048 pages.
RELEASE_STEP = 8 << 20


class MappedFile:
    """Maps on first use; close() unmaps, and a later use maps again (a folder may hold hundreds of shards)."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            status = path.stat()
        except (OSError, ValueError) as error:
            raise CheckpointError(path, reason(error)) from error
        # Opening a named pipe would wait for ever.
        if not stat.S_ISREG(status.st_mode):
            raise CheckpointError(path, "is not a regular file")
        if status.st_size == 0:
            raise CheckpointError(path, "is empty (0 bytes)")
        self.size = status.st_size
        self._map: mmap.mmap | None = None
        self._bytes: npt.NDArray[np.uint8] | None = None
        # What has been read and not been dropped yet: how much, from where, to where.
        self._done, self._first, self._last = 0, self.size, 0

    @property
    def map(self) -> mmap.mmap:
        """The mapping itself, for headers."""
        if self._map is None:
            try:
                with self.path.open("rb") as stream:
                    mapped = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
            except (OSError, ValueError) as error:
                raise CheckpointError(self.path, reason(error)) from error
            if len(mapped) != self.size:
                raise CheckpointError(
                    self.path, f"changed while it was read: it had {self.size} bytes and now has {len(mapped)}"
                )
            self._map = mapped
        return self._map

    @property
    def bytes(self) -> npt.NDArray[np.uint8]:
        """The whole file as a read-only array; no page is resident before it is touched."""
        if self._bytes is None:
            self._bytes = np.frombuffer(self.map, np.uint8)
        return self._bytes

    def release(self, start: int, stop: int) -> None:
        """Drop the pages of [start, stop) from this process, some time; they stay in the system's cache."""
        self._done += stop - start
        self._first = min(self._first, start)
        self._last = max(self._last, stop)
        if self._done > RELEASE_STEP:
            self._drop()

    def _drop(self) -> None:
        # Pages between two released ranges may go as well: they are clean, and come back when they are touched.
        if self._map is not None and hasattr(mmap, "MADV_DONTNEED"):
            first = self._first - self._first % mmap.PAGESIZE
            self._map.madvise(mmap.MADV_DONTNEED, first, min(self._last, self.size) - first)
        self._done, self._first, self._last = 0, self.size, 0

    def prefetch(self, start: int, stop: int) -> None:
        """Start reading [start, stop) from the disk in the background."""
        stop = min(stop, self.size)
        if self._map is not None and start < stop and hasattr(mmap, "MADV_WILLNEED"):
            first = start - start % mmap.PAGESIZE
            self._map.madvise(mmap.MADV_WILLNEED, first, stop - first)

    def close(self) -> None:
        """Unmap, once no array over the file is alive."""
        self._bytes = None
        self._map = None
        self._done, self._first, self._last = 0, self.size, 0


def reason(error: Exception) -> str:
    """An exception of the operating system as a sentence without its repeated file name."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror[0].lower() + error.strerror[1:]
    return str(error).splitlines()[0] if str(error) else type(error).__name__
