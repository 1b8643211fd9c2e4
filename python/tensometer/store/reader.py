"""Reads a run, also while it is written."""

import difflib
import os
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from tensometer.store.listing import about_of, asked_for, in_phase, pattern_of, segment_paths
from tensometer.store.place import Place, open_place
from tensometer.store.ranks import Difference, differences, merged
from tensometer.store.raw import decode_raw
from tensometer.store.segment import (
    BIN_COLUMNS,
    ROW_COLUMNS,
    Column,
    Event,
    Segment,
    SegmentError,
    TensorKey,
    decode_segment,
)
from tensometer.store.series import Series
from tensometer.store.table import Rows, Table, table_of
from tensometer.store.writer import END, RAW


@dataclass(frozen=True)
class _Part:
    """A segment, whose columns number tensors and phases as the run does."""

    path: str
    segment: Segment
    columns: dict[str, Column]


class _Joined:
    """All segments of one rank, and where each tensor's rows are: a series costs no search through the others."""

    def __init__(self, parts: list[_Part], damaged: Callable[[str, Exception], None]) -> None:
        self._parts, self._tell = parts, damaged
        self.columns = {
            name: np.concatenate([np.zeros(0, dtype), *(part.columns[name] for part in parts)])
            for name, (dtype, _) in ROW_COLUMNS.items()
        }
        self._order = np.argsort(self.columns["tensor"], kind="stable")
        self._sorted = self.columns["tensor"][self._order]

    @cached_property
    def bins(self) -> tuple[dict[str, Column], npt.NDArray[np.int64]]:
        """Columns of all bins, and where each row's bins end. Rows whose bins are damaged have no histogram."""
        found = [{name: np.zeros(0, dtype) for name, (dtype, _) in BIN_COLUMNS.items()}]
        first = 0
        for part in self._parts:
            rows = slice(first, first + part.segment.rows)
            first = rows.stop
            try:
                found.append(part.segment.bins())
            except SegmentError as error:
                self._tell(part.path, error)
                self.columns["histogram_bins"][rows] = 0
                self.columns["histogram_resolution"][rows] = ROW_COLUMNS["histogram_resolution"][1]
        columns = {name: np.concatenate([one[name] for one in found]) for name in BIN_COLUMNS}
        return columns, np.cumsum(self.columns["histogram_bins"], dtype=np.int64)

    def bins_of(self, rows: npt.NDArray[np.intp]) -> dict[str, Column]:
        """The bins of some rows, and the columns of rows that tell of them."""
        columns, ends = self.bins
        lengths = self.columns["histogram_bins"][rows].astype(np.int64)
        # Positions first[0] .. first[0] + lengths[0] - 1, first[1] .., one after another.
        first = ends[rows] - lengths
        at = np.repeat(first - (np.cumsum(lengths) - lengths), lengths) + np.arange(int(lengths.sum()))
        about = {name: self.columns[name][rows] for name in self.columns if name.startswith("histogram_")}
        return about | {name: column[at] for name, column in columns.items()}

    @property
    def last_step(self) -> int:
        """The last step of the rank."""
        return int(self.columns["step"].max(initial=-1))

    def rows(self, tensors: list[int], phase: int | None) -> npt.NDArray[np.intp]:
        """Rows of some tensors in the order of their steps, and in the order of writing within a step."""
        first = np.searchsorted(self._sorted, tensors, "left").tolist()
        last = np.searchsorted(self._sorted, tensors, "right").tolist()
        parts = [self._order[begin:end] for begin, end in zip(first, last, strict=True)]
        rows = np.sort(np.concatenate(parts)) if parts else np.zeros(0, np.intp)
        rows = rows[in_phase(self.columns["phase"][rows], phase)]
        return np.asarray(rows[np.argsort(self.columns["step"][rows], kind="stable")])


class _Damage:
    """What could not be read. Not the run itself, which would then hold itself in memory until a garbage collection."""

    def __init__(self) -> None:
        self.sentences: dict[str, str] = {}

    def tell(self, path: str, error: Exception) -> None:
        """Keep why, and warn."""
        self.sentences[path] = str(error)
        warnings.warn(f"tensometer: {error}; it is skipped", RuntimeWarning, stacklevel=5)


class Run:
    """A run directory or URL. It shows the segments that were complete at the last refresh().

    A damaged segment is skipped: one RuntimeWarning names it, and `damaged` keeps its sentence; one that could not be
    fetched is tried again by refresh(). Histograms are read
    when the first is asked for; rows whose histograms are damaged have none.
    """

    def __init__(self, url: str | os.PathLike[str]) -> None:
        self._place: Place = open_place(url)
        self.url = self._place.url
        self._damage = _Damage()
        self._seen: set[str] = set()
        self._keys: dict[TensorKey, int] = {}
        self._phases: dict[str, int] = {}
        self._parts: dict[int, list[_Part]] = {}
        self._joined: dict[int, _Joined] = {}
        self._events: list[tuple[Event, int]] = []
        self._last: dict[int, tuple[str, bool]] = {}  # of each rank: its last segment, and whether that is an end
        self.about = about_of(self._place)
        self.refresh()

    def refresh(self) -> int:
        """Read what has been written since; returns the number of new rows."""
        return sum(self._add(path, rank) for path, rank in segment_paths(self._place) if path not in self._seen)

    def _add(self, path: str, rank: int) -> int:
        try:
            segment = decode_segment(self._place.read(path), path)
        except SegmentError as error:
            self._seen.add(path)
            self._damage.tell(path, error)
            return 0
        except OSError as error:
            # Of the way to it, perhaps: the next refresh() tries again.
            if path not in self.damaged:
                self._damage.tell(path, error)
            return 0
        self._seen.add(path)
        self.damaged.pop(path, None)
        tensors = [self._keys.setdefault(key, len(self._keys)) for key in segment.tensors]
        phases = [self._phases.setdefault(phase, len(self._phases)) for phase in segment.phases]
        columns = dict(segment.columns)
        if segment.rows:
            columns["tensor"] = np.array(tensors, np.uint32)[segment.columns["tensor"]]
            columns["phase"] = np.array(phases, np.uint16)[segment.columns["phase"]]
        self._events += [(event, rank) for event in segment.events]
        # Whoever continues a run writes behind its end. Segments may come late.
        end = any(event.kind == END for event in segment.events)
        self._last[rank] = max(self._last.get(rank, ("", False)), (path, end))
        parts = self._parts.setdefault(rank, [])
        parts.append(_Part(path, segment, columns))
        parts.sort(key=lambda part: part.path)
        self._joined.pop(rank, None)
        return segment.rows

    @property
    def damaged(self) -> dict[str, str]:
        """Segments that could not be read, and why."""
        return self._damage.sentences

    @property
    def ranks(self) -> list[int]:
        """The writers of the run that have stored something."""
        return sorted(self._parts)

    @property
    def phases(self) -> list[str]:
        """Names of phases, in the order in which they appeared."""
        return list(self._phases)

    def events(self, kind: str | None = None, rank: int | None = None) -> list[Event]:
        """Facts that are no numbers, in the order of their steps, then in the order of writing.

        Kinds are nonfinite, problem, config, gradients_missing, activations_not_seen, recorder, interrupted,
        raw, end.
        """
        found = [one for one, of in self._events if kind in (None, one.kind) and rank in (None, of)]
        return sorted(found, key=lambda event: event.step)

    def tensors(self, collection: str | None = None, regex: str | None = None) -> list[TensorKey]:
        """What was recorded, in the order of appearance; of one collection, with names that `regex` finds itself in."""
        pattern = pattern_of(regex)
        return [key for key in self._keys if asked_for(key, collection, pattern)]

    def steps(self, phase: str | None = None, rank: int | None = None) -> npt.NDArray[np.int64]:
        """The steps that anything was recorded at, ascending, without repetition."""
        found = [np.zeros(0, np.int64)]
        for one in self.ranks if rank is None else [rank]:
            columns = self._rank(one).columns
            found.append(columns["step"][in_phase(columns["phase"], self._phase_number(phase))])
        return np.unique(np.concatenate(found))

    def series(
        self, name: str, *, collection: str | None = None, phase: str | None = None, rank: int | None = None
    ) -> Series:
        """All rows of one tensor. KeyError for a name that was not recorded, with those nearest to it.

        collection: where several have the name. rank: by default the first that recorded it.
        """
        return next(self._parts_of(name, collection, phase, self.ranks if rank is None else [rank]))

    def _parts_of(self, name: str, collection: str | None, phase: str | None, ranks: Sequence[int]) -> Iterator[Series]:
        """The series of each rank that recorded a tensor, at least one."""
        ids = [
            number
            for key, number in self._keys.items()
            if key.name == name and (collection is None or key.collection == collection)
        ]
        collections = sorted({key.collection for key, number in self._keys.items() if number in ids})
        if len(collections) > 1:
            raise KeyError(f"{name!r} is in several collections ({', '.join(collections)}); give collection=")
        recorded = False
        for rank in ranks:
            rows = self._rank(rank).rows(ids, self._phase_number(phase))
            if len(rows):
                recorded = True
                yield self._series(rows, rank)
        if recorded:
            return
        nearest = difflib.get_close_matches(name, list(dict.fromkeys(key.name for key in self._keys)), 3)
        hint = f"; the nearest are {', '.join(nearest)}" if nearest else ""
        raise KeyError(f"{name!r} was not recorded{hint}")

    def table(
        self,
        *,
        collection: str | None = None,
        regex: str | None = None,
        phase: str | None = None,
        rank: int | None = None,
        statistics: Sequence[str] | None = None,
    ) -> Table:
        """All rows of some tensors as one table; by default of all tensors, with all statistics. See Table."""
        keys = list(self._keys)
        numbers = [self._keys[key] for key in self.tensors(collection, regex)]
        parts = []
        for one in self.ranks if rank is None else [rank]:
            joined = self._rank(one)
            rows = joined.rows(numbers, self._phase_number(phase))
            columns = joined.columns
            # Most often everything is wanted, and it lies in order.
            if len(rows) != len(columns["step"]) or bool((np.diff(rows) != 1).any()):
                columns = {name: column[rows] for name, column in columns.items()}
            parts.append(Rows(one, columns, keys, list(self._phases)))
        return table_of(parts, statistics)

    @property
    def ended(self) -> bool:
        """Whether all writers that have stored something were closed, and nobody has continued the run."""
        return bool(self._last) and all(end for _, end in self._last.values())

    def follow(self, *, poll: float = 1.0, timeout: float | None = None) -> Iterator[int]:
        """New steps, ascending, as they become whole, from the first on; ends when the run has.

        Rows that come late, of steps before those told of (as a flight recorder's), are read but not told of.

        A step is whole when all writers that go on have stored something of a later one. poll: seconds between looks.
        timeout: seconds without news after which to end as well; None to wait for ever. ValueError for times below 0.
        """
        if poll <= 0 or (timeout is not None and timeout < 0):
            raise ValueError(f"poll, timeout: {poll}, {timeout} are no times to wait")
        told = -1
        news = time.monotonic()
        while True:
            if self.refresh():
                news = time.monotonic()
            late = timeout is not None and time.monotonic() - news > timeout
            last = [self._rank(rank).last_step for rank, (_, end) in self._last.items() if not end]
            whole = None if self.ended or late else min(last, default=0)
            steps = [step for step in self.steps().tolist() if step > told and (whole is None or step < whole)]
            yield from steps
            told = max(steps, default=told)
            if whole is None:
                return
            time.sleep(poll)

    def tensor(
        self,
        name: str,
        step: int,
        *,
        collection: str | None = None,
        phase: str | None = None,
        rank: int | None = None,
    ) -> Any:
        """A tensor that was kept whole (save="raw"), as an array; see decode_raw for dtypes that NumPy lacks.

        KeyError for what was not kept, with the steps at which it was. SegmentError if its file is damaged.
        """
        wanted = {"name": name, "collection": collection, "phase": phase}
        kept = [
            event
            for event in self.events(RAW, rank)
            if all(value is None or event.data.get(key) == value for key, value in wanted.items())
        ]
        for event in reversed(kept):  # the last of a step, as a series has it
            if event.step == step:
                path = str(event.data.get("file"))
                return decode_raw(self._place.read(path), path)
        steps = sorted({event.step for event in kept}, key=lambda at: abs(at - step))[:5]
        hint = f"; it was at steps {', '.join(map(str, sorted(steps)))}" if steps else ""
        raise KeyError(f"{name!r} was not kept whole at step {step}{hint}")

    def merged(self, name: str, *, collection: str | None = None, phase: str | None = None) -> Series:
        """Whole tensors, from the shards that the ranks recorded; see ranks.merged. KeyError as series()."""
        return merged(list(self._parts_of(name, collection, phase, self.ranks)), list(self._keys))

    def replicas(self, name: str, *, collection: str | None = None, phase: str | None = None) -> list[Difference]:
        """Steps at which ranks that should have the same do not; none if they agree. KeyError as series()."""
        return differences(list(self._parts_of(name, collection, phase, self.ranks)), list(self._keys))

    def _series(self, rows: npt.NDArray[np.intp], rank: int) -> Series:
        joined = self._rank(rank)
        part = {name: column[rows] for name, column in joined.columns.items()}
        names = list(self._phases)
        key = list(self._keys)[int(part["tensor"][-1])]
        phases = tuple(names[number] for number in part["phase"].tolist())
        return Series(key, rank, phases, part, lambda: joined.bins_of(rows))

    def _phase_number(self, phase: str | None) -> int | None:
        return None if phase is None else self._phases.get(phase, -1)

    def _rank(self, rank: int) -> _Joined:
        if rank not in self._joined:
            self._joined[rank] = _Joined(self._parts.get(rank, []), self._damage.tell)
        return self._joined[rank]


def open_run(url: str | os.PathLike[str]) -> Run:
    """Open a run, finished or not. FileNotFoundError where there is none; see Run."""
    return Run(url)
