"""Writes a run: a thread of its own encodes, compresses and stores; the caller never waits for it."""

import atexit
import errno
import json
import operator
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from tensometer.notices import warn
from tensometer.store.files import RunFiles
from tensometer.store.layout import END, MOST_RANKS, RAW, rank_folder, raw_folder
from tensometer.store.place import Place, open_place
from tensometer.store.raw import check_raw, encode_raw
from tensometer.store.resume import Earlier
from tensometer.store.segment import Event, Record, TensorKey, encode_segment

# Seconds between attempts at a place that does not take a file: doubled from the first to the last.
_FIRST_PAUSE, _LAST_PAUSE = 0.1, 5.0
# As much of the memory above a training's as a segment in the making may take, and once more while it is encoded.
_SEGMENT_BYTES = 8 << 20
# What an event or a raw tensor takes beside its data.
_ITEM_BYTES = 500


@dataclass(frozen=True)
class _Raw:
    """A tensor to be kept whole."""

    step: int
    time: float
    phase: str
    key: TensorKey
    data: bytes


@dataclass(frozen=True)
class _Waiting:
    """What is to be stored, how many rows it counts for, and about how much memory it takes."""

    item: tuple[Record, ...] | Event | _Raw
    rows: int
    size: int


class RunWriter:
    """Appends records to a run; other writers may do the same under other ranks.

    url: a path, or a URL that fsspec knows. Segments close after `flush_seconds`, `flush_rows`, or 8 MB of summaries in
    memory (a quarter of `queue_bytes` if that is less). What would take more than about `queue_bytes`, because the
    place takes nothing, is dropped and counted in `dropped`; the first problem is a RuntimeWarning in the caller's
    thread, all are in `problems`. An earlier run at the same place is continued. TypeError or ValueError for wrong
    arguments; nothing is raised later.
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
        queue_bytes: int = 256 << 20,
    ) -> None:
        self.rank, world_size = _whole("rank", rank), _whole("world_size", world_size)
        if not 1 <= world_size <= MOST_RANKS:
            raise ValueError(f"world_size: {world_size} is not from 1 to {MOST_RANKS}")
        if not 0 <= self.rank < world_size:
            raise ValueError(f"rank: {rank} is not from 0 to {world_size - 1}, the world size less 1")
        self._place: Place = open_place(url)
        self._files = RunFiles(self._place, {"world_size": world_size, "config": dict(config or {})})
        self._flush_seconds, self._flush_rows = flush_seconds, flush_rows
        self._flush_bytes, self._queue_bytes = min(_SEGMENT_BYTES, queue_bytes // 4), queue_bytes
        self.dropped = 0
        self.problems: list[str] = []
        self._warned = False
        self._pending: deque[_Waiting] = deque()
        self._pending_rows = self._pending_bytes = 0
        self._flying_rows = self._flying_bytes = 0
        self._step = self._told = -1  # the last step that is over; the last that an event is of
        self._launch = 0
        self._oldest = 0.0
        self._asked = False  # to write what there is, at once
        self._hurried = False  # to try again at once
        self._closing = False
        self._busy = True
        self._taken = False  # the place has taken something
        self._hopeless = False  # it has not, and the last reason does not pass by itself
        self._changed = threading.Condition()
        self._pid = os.getpid()
        self._thread = threading.Thread(target=self._work, name="tensometer-writer", daemon=True)
        self._thread.start()
        atexit.register(self.close)

    def last_step(self, timeout: float = 10.0) -> int:
        """The last step that was reached before this launch, by any rank; -1 if there is none that can be read.

        This writer goes on behind it. A place that does not answer within `timeout` seconds is a problem, not something
        to wait for: what has been read by then counts, this rank's own steps first.
        """
        earlier = Earlier(self._place, self.rank, self._note)
        thread = threading.Thread(target=earlier.look, daemon=True)
        thread.start()
        thread.join(timeout)
        step = earlier.step
        if thread.is_alive():
            self._note(f"{self._place.url}: does not answer; steps are numbered from {step + 1}")
        self._warn()
        self._launch = earlier.launch
        self.progress(step)
        return step

    def progress(self, step: int) -> None:
        """Tell that a step is over, whether anything of it was submitted or not; a continued run goes on behind it."""
        self._step = max(self._step, step)

    def submit(self, *records: Record) -> None:
        """Hand over records, such as all of a step; returns at once. They are stored in one segment.

        After close(), and in the child of a fork, records are dropped.
        """
        if not records:
            return
        rows = sum(len(record.keys) for record in records)
        self._append(_Waiting(records, rows, sum(record.table.nbytes for record in records)))
        for record in records:
            self.progress(record.step)

    def event(self, step: int, time: float, kind: str, data: Mapping[str, Any]) -> None:
        """Hand over a fact that is no number, as submit() does. TypeError or ValueError if data are no JSON values."""
        size = len(json.dumps(data, allow_nan=False))
        # The end has no row of its own: it is no summary, and is stored whatever else waits.
        rows, size = (0, 0) if kind == END else (1, _ITEM_BYTES + size)
        self._told = max(self._told, step)
        self._append(_Waiting(Event(step, time, kind, dict(data), self.rank), rows, size))

    def raw(self, step: int, time: float, phase: str, key: TensorKey, data: bytes) -> None:
        """Hand over a whole tensor, its elements in C order and little-endian; returns at once.

        ValueError for a dtype that is none of the format's, or bytes that are not as many as dtype and shape say.
        """
        check_raw(key, data)
        self._append(_Waiting(_Raw(step, time, phase, key, data), 1, _ITEM_BYTES + len(data)))

    def _append(self, one: _Waiting) -> None:
        with self._changed:
            full = self._pending_bytes + self._flying_bytes + one.size > self._queue_bytes
            if self._closing or os.getpid() != self._pid or full:
                self.dropped += one.rows
            else:
                if not self._pending:
                    self._oldest = time.monotonic()
                self._pending.append(one)
                self._pending_rows += one.rows
                self._pending_bytes += one.size
                if self._enough() or len(self._pending) == 1:
                    self._changed.notify_all()
        self._warn()

    def _enough(self) -> bool:
        """Whether what waits is a segment already."""
        return self._pending_rows >= self._flush_rows or self._pending_bytes >= self._flush_bytes

    def flush(self, timeout: float = 30.0) -> bool:
        """Wait until what was submitted is stored; False if it is not after `timeout` seconds.

        Nor is there anything to wait for at a place that has never taken anything and refuses for good: one that is
        read-only or is not there.
        """
        if os.getpid() != self._pid:
            return False
        with self._changed:
            self._asked = self._hurried = True
            self._hopeless = False
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._idle() or self._hopeless, timeout)
            stored = self._idle()
        self._warn()
        return stored

    def _idle(self) -> bool:
        return not self._pending and not self._busy

    def close(self, timeout: float = 30.0) -> bool:
        """Flush and end the thread; False if something could not be stored, which is then dropped and counted."""
        if os.getpid() != self._pid:
            return False
        atexit.unregister(self.close)
        if self._thread.is_alive() and not self._closing:
            about = {"dropped": self.dropped, "problems": self.problems}
            self.event(max(self._step, self._told), time.time(), END, about)
        stored = self.flush(timeout)
        with self._changed:
            self._closing = True
            self.dropped += self._pending_rows
            self._pending.clear()
            self._pending_rows = self._pending_bytes = 0
            self._changed.notify_all()
        self._thread.join(1.0)
        self._lose(self._flying_rows)
        return stored

    def _warn(self) -> None:
        if self.problems and not self._warned:
            self._warned = True
            warn(f"{self.problems[0]}; training goes on")

    def _work(self) -> None:
        self._persist(self._files.begin)
        self._rest()
        while (batch := self._due()) is not None:
            self._store(batch)
            self._rest()

    def _rest(self) -> None:
        with self._changed:
            self._busy = False
            self._flying_rows = self._flying_bytes = 0
            self._changed.notify_all()

    def _due(self) -> list[_Waiting] | None:
        """The next batch when it is time to store one; None at the end."""
        with self._changed:
            while True:
                if self._closing:
                    return None
                left = self._oldest + self._flush_seconds - time.monotonic()
                if self._pending and (self._asked or self._enough() or left <= 0):
                    break
                self._asked = self._asked and bool(self._pending)
                self._changed.wait(left if self._pending else None)
            batch: list[_Waiting] = []
            while self._pending and self._flying_rows < self._flush_rows and self._flying_bytes < self._flush_bytes:
                batch.append(self._pending.popleft())
                self._flying_rows += batch[-1].rows
                self._flying_bytes += batch[-1].size
            self._pending_rows -= self._flying_rows
            self._pending_bytes -= self._flying_bytes
            self._oldest = time.monotonic()
            self._busy = True
            return batch

    def _store(self, batch: list[_Waiting]) -> None:
        records: list[Record] = []
        events: list[Event] = []
        for one in batch:
            if isinstance(one.item, tuple):
                records += one.item
            elif isinstance(one.item, Event):
                events.append(one.item)
            elif (event := self._stored_raw(one.item)) is not None:
                events.append(event)
        data = self._encoded(records, events)
        # Once encoded they are small, however long the place stays away.
        batch.clear()
        records.clear()
        if data is not None and not self._persist(partial(self._files.put, rank_folder(self.rank), data)):
            self._lose(self._flying_rows)

    def _stored_raw(self, raw: _Raw) -> Event | None:
        """Keep a tensor as a file; the event that says where it is, None if it is lost."""
        path: list[str] = []
        try:
            data = encode_raw(raw.key, raw.data)
        except Exception as error:
            self._note(f"{self._place.url}: {raw.key.name} could not be encoded: {type(error).__name__}: {error}")
        else:
            self._persist(lambda: path.append(self._files.put(raw_folder(self.rank), data)))
        if not path:
            self._lose(1)
            return None
        about = {"name": raw.key.name, "collection": raw.key.collection, "phase": raw.phase, "file": path[0]}
        return Event(raw.step, raw.time, RAW, about, self.rank)

    def _encoded(self, records: list[Record], events: list[Event]) -> bytes | None:
        """A segment of all that can be encoded, None of nothing. What cannot is lost, and nothing else with it."""
        encode = partial(encode_segment, rank=self.rank, step=self._step, launch=self._launch)
        try:
            return encode(records, events=events)
        except Exception:
            kept = [one for one in records if self._encodes(partial(encode, [one]), "summaries", len(one.keys))]
            told = [one for one in events if self._encodes(partial(encode, [], events=[one]), "an event", 1)]
        rows = sum(len(one.keys) for one in kept) + len(told)
        data: list[bytes] = []
        if rows:
            self._encodes(lambda: data.append(encode(kept, events=told)), "a segment", rows)
        return data[0] if data else None

    def _encodes(self, encode: Callable[[], object], what: str, rows: int) -> bool:
        """Whether something can be encoded. If not, its rows are lost: nothing that waiting mends."""
        try:
            encode()
        except Exception as error:
            self._note(f"{self._place.url}: {what} could not be encoded: {type(error).__name__}: {error}")
            self._lose(rows)
            return False
        return True

    def _persist(self, put: Callable[[], object]) -> bool:
        """Try until the place has taken something; False if the writer is closed before it has."""
        pause = _FIRST_PAUSE
        while True:
            self._hurried = False
            # What a store raises is not a closed list, and nothing may end this thread.
            try:
                put()
            except Exception as error:
                self._note(f"{self._place.url}: a file could not be stored: {type(error).__name__}: {error}")
                hopeless = not self._taken and _is_final(error)
            else:
                self._taken = True
                return True
            with self._changed:
                self._hopeless = hopeless
                self._changed.notify_all()
                self._changed.wait_for(lambda: self._closing or self._hurried, pause)
                if self._closing:
                    return False
            pause = min(2 * pause, _LAST_PAUSE)

    def _lose(self, rows: int) -> None:
        """Rows that the thread has in hand, and could not store; close() may have counted them already."""
        with self._changed:
            lost = min(rows, self._flying_rows)
            self.dropped += lost
            self._flying_rows -= lost

    def _note(self, problem: str) -> None:
        if problem not in self.problems and len(self.problems) < 100:
            self.problems.append(problem)


def _is_final(error: Exception) -> bool:
    """Whether an error of a place does not pass by itself, as that of a connection may, or that of a full disk."""
    final = (PermissionError, FileNotFoundError, NotADirectoryError)
    return isinstance(error, final) or getattr(error, "errno", None) in (errno.EROFS, errno.ENAMETOOLONG)


def _whole(name: str, value: object) -> int:
    """A whole number. TypeError, naming the argument, for anything else."""
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise TypeError(f"{name}: {value!r} is not a whole number")
    return operator.index(value)
