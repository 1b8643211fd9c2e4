"""Memory for the PTX interpreter: bounds, alignment, and races between threads that no barrier orders."""

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

BASE = 0x7F40_0000_0000
GUARD = 256  # between two buffers, at the least
SHARED_FIRST = 1024  # where dynamic shared memory begins in its own space: null is no address of it
POISON = 0xA5
CELL = 2  # bytes, of which it is known who used them last
READABLE, WRITABLE, SHARED = 1, 2, 4
READ, WRITE, ATOMIC = 0, 1, 2
_VERBS = ("read", "wrote", "changed atomically")
_CONFLICTS = {READ: (WRITE, ATOMIC), WRITE: (READ, WRITE, ATOMIC), ATOMIC: (READ, WRITE)}
_NOBODY, _SEVERAL = -1, -2
_BLOCK, _WARP, _LANE, _BLOCK_EPOCH, _WARP_EPOCH = range(5)


class PtxError(Exception):
    """What the interpreter refuses to execute, or must not be executed."""


class Races:
    """Who last read, wrote and atomically changed each cell.

    Two accesses of which one writes are ordered by program order, by a barrier of the warp or by one of the block.
    Threads that share a cell but not a byte of it are taken for a race: the kernels have none.
    """

    def __init__(self, size: int) -> None:
        self.last = np.full((3, 5, size // CELL), _NOBODY, np.int32)
        self.block = self.block_epoch = 0
        self.warp_epoch = np.zeros(32, np.int32)

    def enter_block(self, block: int, first: int, end: int) -> None:
        """A thread block begins, whose shared memory lies there."""
        self.block, self.block_epoch = block, 0
        self.warp_epoch[:] = 0
        self.last[:, _BLOCK, first // CELL : -(-end // CELL)] = _NOBODY

    def note(self, kind: int, cells: Array, threads: Array) -> None:
        """An access of so many cells, each by one thread."""
        warp, lane = threads // 32, threads % 32
        for other in _CONFLICTS[kind]:
            before = self.last[other][:, cells]
            if not (ordered := self._ordered(before, warp, lane)).all():
                at = int(np.argmin(ordered))
                who = "block {} warp {} lane {}".format(*before[:3, at])
                now = f"thread {threads[at]} of block {self.block}"
                raise PtxError(f"race: {now} meets what {who} {_VERBS[other]} (-2: several)")
        if kind == WRITE and np.unique(cells).size != cells.size:
            raise PtxError("race: two threads write one place at once")
        last = self.last[kind]
        before = last[:, cells]
        mixed = ~self._ordered(before, warp, lane)
        elsewhere = mixed & (before[_BLOCK] != self.block)
        apart = mixed & (elsewhere | (before[_WARP] != warp))
        last[_BLOCK, cells] = np.where(elsewhere, _SEVERAL, self.block)
        last[_WARP, cells] = np.where(apart, _SEVERAL, warp)
        last[_LANE, cells] = np.where(mixed, _SEVERAL, lane)
        last[_BLOCK_EPOCH, cells] = self.block_epoch
        last[_WARP_EPOCH, cells] = self.warp_epoch[warp]
        # Of several threads at one cell, the last one is there now.
        last[_WARP, cells[last[_WARP, cells] != warp]] = _SEVERAL
        last[_LANE, cells[last[_LANE, cells] != lane]] = _SEVERAL

    def _ordered(self, before: Array, warp: Array, lane: Array) -> Array:
        in_warp = (before[_WARP] == warp) & ((before[_WARP_EPOCH] < self.warp_epoch[warp]) | (before[_LANE] == lane))
        in_block = (before[_BLOCK] == self.block) & ((before[_BLOCK_EPOCH] < self.block_epoch) | in_warp)
        ordered: Array = in_block | (before[_BLOCK] == _NOBODY)
        return ordered


class Memory:
    """Buffers in one address space, apart from each other, and a window on the shared memory of a thread block."""

    def __init__(self, size: int = 8 << 20, shared: int = 128 << 10) -> None:
        self.bytes = np.full(size, POISON, np.uint8)
        self.words = {width: self.bytes.view(f"u{width}") for width in (1, 2, 4, 8)}
        self.flags = np.zeros(size, np.uint8)
        self.races = Races(size)
        self.window = self.used = shared
        self.shared_size = 0

    def place(self, data: Array, *, writable: bool = False, misaligned: int = 0) -> int:
        """Copies an array in and returns its address, so many bytes off a multiple of 256."""
        first = -(-(self.used + GUARD) // 256) * 256 + misaligned
        self.used = first + data.nbytes
        if self.used + GUARD > self.bytes.size:
            raise PtxError("the memory of the interpreter is too small")
        self.bytes[first : self.used] = np.frombuffer(data.tobytes(), np.uint8)
        self.flags[first : self.used] = READABLE | (WRITABLE if writable else 0)
        return BASE + first

    def take(self, address: int, dtype: npt.DTypeLike, count: int) -> Array:
        """A copy of what lies there."""
        first = address - BASE
        return np.frombuffer(self.bytes[first : first + np.dtype(dtype).itemsize * count].tobytes(), dtype)

    def address_of_shared(self) -> int:
        """What to add to an address in shared memory to make it one among all."""
        return BASE

    def launch(self, shared_size: int) -> None:
        """A kernel begins: all that was done before is ordered before it."""
        self.races.last[:, _BLOCK, : -(-self.used // CELL)] = _NOBODY
        if SHARED_FIRST + shared_size > self.window:
            raise PtxError(f"{shared_size} bytes of shared memory are too many")
        self.flags[: self.window] = 0
        self.shared_size = shared_size
        self.flags[SHARED_FIRST : SHARED_FIRST + shared_size] = READABLE | WRITABLE | SHARED

    def enter_block(self, block: int) -> None:
        """A thread block begins: nothing is known of its shared memory."""
        end = SHARED_FIRST + self.shared_size
        self.bytes[SHARED_FIRST:end] = POISON
        self.races.enter_block(block, SHARED_FIRST, end)

    def locate(self, space: str, addresses: Array, size: int, needs: int) -> Array:
        """Offsets of as many accesses of `size` bytes, all of which must be allowed."""
        offsets: Array = addresses.astype(np.int64)
        if space != "shared":
            offsets -= BASE
        if (odd := offsets % size != 0).any():
            raise PtxError(f"{size} bytes at {int(addresses[np.argmax(odd)]):#x} are not aligned")
        bad = (offsets < 0) | (offsets > self.bytes.size - size)
        if not bad.any():
            have = self.flags[offsets] & self.flags[offsets + (size - 1)]
            bad = have & needs != needs
            if space != "generic":
                bad |= (have & SHARED != 0) != (space == "shared")
        if bad.any():
            raise PtxError(f"{size} bytes at {int(addresses[np.argmax(bad)]):#x} are no {space} memory to use so")
        return offsets

    def note(self, kind: int, offsets: Array, cells: Array, threads: Array) -> None:
        """An access of each thread: the cells so many after its offset, of memory that is written at all."""
        kept = self.flags[offsets] & WRITABLE != 0
        if kept.any():
            each = (offsets[kept] // CELL)[:, None] + cells
            self.races.note(kind, each.ravel(), np.repeat(threads[kept], cells.size))
