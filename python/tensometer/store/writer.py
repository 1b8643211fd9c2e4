"""Writes a run: a thread of its own encodes, compresses and stores; the caller never waits for it."""

import atexit
import json
import os
import threading
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from tensometer._core import __version__
from tensometer.notices import warn
from tensometer.store.place import Place, open_place
from tensometer.store.raw import check_raw, encode_raw
from tensometer.store.segment import VERSION, Event, Record, SegmentError, TensorKey, decode_segment, encode_segment

RUN_FILE = "run.json"
SUFFIX = ".tmz"
# The kind of the last event of a writer that was closed.
END = "end"
# The kind of the events that say where a raw tensor is.
RAW = "raw"
# Seconds between attempts at a place that does not take a segment: doubled from the first to the last.
_FIRST_PAUSE, _LAST_PAUSE = 0.1, 5.0


@dataclass(frozen=True)
class _Raw:
    """A tensor to be kept whole."""

    step: int
    time: float
    phase: str
    key: TensorKey
    data: bytes


_Item = Record | Event | _Raw


def rank_folder(rank: int) -> str:
    """The folder of one writer."""
    return f"rank-{rank:05d}"


class RunWriter:
    """Appends records to a run; other writers may do the same under other ranks.

    url: a path, or a URL that fsspec knows. Segments close after `flush_seconds` or `flush_rows`. What does not fit
    into `queue_rows`, or into `queue_bytes` of raw tensors, because the place takes nothing, is dropped and counted in
    `dropped`; the first problem is a RuntimeWarning in the caller's thread, all are in `problems`. An earlier run at
    the same place is continued. TypeError or ValueError for wrong arguments; nothing is raised later.
    """

    def __init__(
        self,
        url: str | os.PathLike[str],
        *,
        rank: int = 0,
        world_size: int = 1,
        config: Mapping[str, Any] | None = None,
        flush_seconds: float = 5.0,
        flush_rows: int = 50_000,
        queue_rows: int = 500_000,
        queue_bytes: int = 256 << 20,
    ) -> None:
        if not 0 <= rank < world_size:
            raise ValueError(f"rank: {rank} is not from 0 to {world_size - 1}, the world size less 1")
        self._place: Place = open_place(url)
        self.rank = rank
        self._about = {"world_size": world_size, "config": dict(config or {})}
        json.dumps(self._about)  # TypeError now rather than in the thread
        self._flush_seconds, self._flush_rows, self._queue_rows = flush_seconds, flush_rows, queue_rows
        self._queue_bytes = queue_bytes
        self.dropped = 0
        self.problems: list[str] = []
        self._warned = False
        self._pending: deque[_Item] = deque()
        self._step = -1
        self._pending_rows = self._pending_bytes = 0
        self._oldest = 0.0
        self._asked = False  # to write what there is, at once
        self._closing = False
        self._busy = False
        self._flying = 0
        self._next: int | None = None
        self._next_raw: int | None = None
        self._changed = threading.Condition()
        self._pid = os.getpid()
        self._thread = threading.Thread(target=self._work, name="tensometer-writer", daemon=True)
        self._thread.start()
        atexit.register(self.close)

    def last_step(self, timeout: float = 10.0) -> int:
        """The last step that an earlier process stored here under this rank; -1 if there is none that can be read.

        A place that does not answer within `timeout` seconds is a problem, not something to wait for.
        """
        found: list[int] = []
        thread = threading.Thread(target=lambda: found.append(self._stored_step()), daemon=True)
        thread.start()
        thread.join(timeout)
        if not found:
            self._note(f"{self._place.url}: does not answer; steps are numbered from 0")
        self._warn()
        return found[0] if found else -1

    def _stored_step(self) -> int:
        folder = rank_folder(self.rank)
        # What a store raises is not a closed list.
        try:
            for name in reversed([name for name in self._place.names(folder) if _is_segment(name)]):
                try:
                    segment = decode_segment(self._place.read(f"{folder}/{name}"), name)
                except SegmentError:
                    continue
                if segment.rows:
                    return int(segment.columns["step"].max())
        except Exception as error:
            self._note(f"{self._place.url}: cannot be read: {type(error).__name__}: {error}")
        return -1

    def submit(self, record: Record) -> None:
        """Hand over a record; returns at once. After close(), and in the child of a fork, records are dropped."""
        self._append(record)

    def event(self, step: int, time: float, kind: str, data: Mapping[str, Any]) -> None:
        """Hand over a fact that is no number, as submit() does. TypeError or ValueError if data are no JSON values."""
        json.dumps(data, allow_nan=False)
        self._append(Event(step, time, kind, dict(data)))

    def raw(self, step: int, time: float, phase: str, key: TensorKey, data: bytes) -> None:
        """Hand over a whole tensor, its elements in C order and little-endian; returns at once.

        ValueError for a dtype that is none of the format's, or bytes that are not as many as dtype and shape say.
        """
        check_raw(key, data)
        self._append(_Raw(step, time, phase, key, data))

    def _append(self, item: _Item) -> None:
        with self._changed:
            rows, size = _rows(item), _size(item)
            full = self._pending_rows + rows > self._queue_rows or self._pending_bytes + size > self._queue_bytes
            if self._closing or os.getpid() != self._pid or full:
                self.dropped += rows
            else:
                if not self._pending:
                    self._oldest = time.monotonic()
                self._pending.append(item)
                self._pending_rows += rows
                self._pending_bytes += size
                self._step = max(self._step, item.step)
                if self._pending_rows >= self._flush_rows or len(self._pending) == 1:
                    self._changed.notify_all()
        self._warn()

    def flush(self, timeout: float = 30.0) -> bool:
        """Wait until what was submitted is stored; False if it is not after `timeout` seconds."""
        with self._changed:
            self._asked = True
            self._changed.notify_all()
            stored = self._changed.wait_for(lambda: not self._pending and not self._busy, timeout)
        self._warn()
        return stored

    def close(self, timeout: float = 30.0) -> bool:
        """Flush and end the thread; False if something could not be stored, which is then dropped and counted."""
        if os.getpid() != self._pid:
            return False
        atexit.unregister(self.close)
        if self._thread.is_alive() and not self._closing:
            self.event(self._step, time.time(), END, {"dropped": self.dropped, "problems": self.problems})
        stored = self.flush(timeout)
        with self._changed:
            self._closing = True
            self.dropped += self._pending_rows
            self._pending.clear()
            self._pending_rows = self._pending_bytes = 0
            self._changed.notify_all()
        self._thread.join(1.0)
        with self._changed:
            self._drop_flying()
        return stored

    def _drop_flying(self) -> None:
        """What the thread has in hand, and could not store."""
        self.dropped += self._flying
        self._flying = 0

    def _warn(self) -> None:
        if self.problems and not self._warned:
            self._warned = True
            warn(f"{self.problems[0]}; training goes on")

    def _work(self) -> None:
        while (batch := self._due()) is not None:
            self._store(batch)
            with self._changed:
                self._busy = False
                self._flying = 0
                self._changed.notify_all()

    def _due(self) -> list[_Item] | None:
        """The next batch when it is time to store one; None at the end."""
        with self._changed:
            while True:
                if self._closing:
                    return None
                left = self._oldest + self._flush_seconds - time.monotonic()
                if self._pending and (self._asked or self._pending_rows >= self._flush_rows or left <= 0):
                    break
                self._asked = self._asked and bool(self._pending)
                self._changed.wait(left if self._pending else None)
            batch: list[_Item] = []
            rows = 0
            while self._pending and rows < self._flush_rows:
                batch.append(self._pending.popleft())
                rows += _rows(batch[-1])
            self._pending_rows -= rows
            self._pending_bytes -= sum(map(_size, batch))
            self._oldest = time.monotonic()
            self._busy = True
            self._flying = rows
            return batch

    def _store(self, batch: list[_Item]) -> None:
        records = [item for item in batch if isinstance(item, Record)]
        events = [item for item in batch if isinstance(item, Event)]
        raws = [item for item in batch if isinstance(item, _Raw)]
        pause = _FIRST_PAUSE
        data: bytes | None = None
        while True:
            # What a store raises is not a closed list, and nothing may end this thread.
            try:
                while raws:
                    events.append(self._put_raw(raws[0]))
                    raws.pop(0)
                if data is None:
                    data = encode_segment(records, rank=self.rank, events=events)
                self._put(data)
                return
            except FileExistsError:
                # Someone else's number. That of raw tensors has gone on already.
                if not raws and self._next is not None:
                    self._next += 1
                continue
            except Exception as error:
                self._note(f"{self._place.url}: a segment could not be stored: {type(error).__name__}: {error}")
                if data is None and not raws:  # nothing that waiting mends
                    with self._changed:
                        self._drop_flying()
                    return
            with self._changed:
                if self._changed.wait_for(lambda: self._closing, pause):
                    self._drop_flying()
                    return
            pause = min(2 * pause, _LAST_PAUSE)

    def _put(self, data: bytes) -> None:
        folder = rank_folder(self.rank)
        if self._next is None:
            self._begin()
            self._next = self._first_free(folder)
        path = f"{folder}/{self._next:09d}{SUFFIX}"
        try:
            self._place.write(path, data)
        except FileExistsError:
            # Our own, if it was stored and the answer was lost; otherwise someone else's number.
            if self._place.read(path) != data:
                raise
        self._next += 1

    def _put_raw(self, raw: _Raw) -> Event:
        """The tensor as a file, and the event that says where it is."""
        data = encode_raw(raw.key, raw.data)
        folder = f"raw-{self.rank:05d}"
        if self._next_raw is None:
            self._next_raw = self._first_free(folder)
        path = f"{folder}/{self._next_raw:09d}{SUFFIX}"
        self._next_raw += 1
        self._place.write(path, data)
        about = {"name": raw.key.name, "collection": raw.key.collection, "phase": raw.phase, "file": path}
        return Event(raw.step, raw.time, RAW, about)

    def _first_free(self, folder: str) -> int:
        numbers = [int(name[: -len(SUFFIX)]) for name in self._place.names(folder) if _is_segment(name)]
        return max(numbers, default=-1) + 1

    def _begin(self) -> None:
        """run.json, by whoever comes first."""
        about = {
            "format": VERSION,
            "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "versions": {"tensometer": __version__, "numpy": np.__version__},
        }
        try:
            self._place.write(RUN_FILE, json.dumps(about | self._about, indent=2).encode() + b"\n")
        except FileExistsError:
            return

    def _note(self, problem: str) -> None:
        if problem not in self.problems and len(self.problems) < 100:
            self.problems.append(problem)


def _rows(item: _Item) -> int:
    if isinstance(item, Record):
        return len(item.keys)
    return 0 if isinstance(item, Event) and item.kind == END else 1


def _size(item: _Item) -> int:
    return len(item.data) if isinstance(item, _Raw) else 0


def _is_segment(name: str) -> bool:
    return name.endswith(SUFFIX) and name[: -len(SUFFIX)].isdecimal()
