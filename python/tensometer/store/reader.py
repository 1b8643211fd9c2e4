"""Reads a run, also while it is written."""

import difflib
import json
import os
import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from tensometer.store.place import Place, open_place
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
from tensometer.store.writer import RUN_FILE, SUFFIX

_RANK = re.compile(r"rank-(\d{5})")


@dataclass(frozen=True)
class _Part:
    """A segment, whose columns number tensors and phases as the run does."""

    path: str
    segment: Segment
    columns: dict[str, Column]


class _Joined:
    """All segments of one rank, and where each tensor's rows are: a series costs no search through the others."""

    def __init__(self, parts: list[_Part], damaged: Callable[[str, Exception], None]) -> None:
        self._parts, self._damaged = parts, damaged
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
                self._damaged(part.path, error)
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

    def rows(self, tensors: list[int], phase: int | None) -> npt.NDArray[np.intp]:
        """Rows of some tensors in the order of their steps, and in the order of writing within a step."""
        first = np.searchsorted(self._sorted, tensors, "left").tolist()
        last = np.searchsorted(self._sorted, tensors, "right").tolist()
        parts = [self._order[begin:end] for begin, end in zip(first, last, strict=True)]
        rows = np.sort(np.concatenate(parts)) if parts else np.zeros(0, np.intp)
        rows = rows[_in_phase(self.columns["phase"][rows], phase)]
        return np.asarray(rows[np.argsort(self.columns["step"][rows], kind="stable")])


class Run:
    """A run directory or URL. It shows the segments that were complete at the last refresh().

    A damaged segment is skipped: one RuntimeWarning names it, and `damaged` keeps its sentence. Histograms are read
    when the first is asked for; rows whose histograms are damaged have none.
    """

    def __init__(self, url: str | os.PathLike[str]) -> None:
        self._place: Place = open_place(url)
        self.url = self._place.url
        self.damaged: dict[str, str] = {}
        self._seen: set[str] = set()
        self._keys: dict[TensorKey, int] = {}
        self._phases: dict[str, int] = {}
        self._parts: dict[int, list[_Part]] = {}
        self._joined: dict[int, _Joined] = {}
        self._events: list[tuple[Event, int]] = []
        try:
            self.about: dict[str, Any] = json.loads(self._place.read(RUN_FILE))
        except FileNotFoundError:
            raise FileNotFoundError(f"{self.url}: there is no run here (no {RUN_FILE})") from None
        except ValueError as error:
            raise ValueError(f"{self.url}: {RUN_FILE} is not valid JSON: {error}") from error
        self.refresh()

    def refresh(self) -> int:
        """Read what has been written since; returns the number of new rows."""
        rows = 0
        for folder in self._place.names():
            match = _RANK.fullmatch(folder)
            if match is None:
                continue
            for name in self._place.names(folder):
                path = f"{folder}/{name}"
                if name.endswith(SUFFIX) and path not in self._seen:
                    self._seen.add(path)
                    rows += self._add(path, int(match[1]))
        return rows

    def _add(self, path: str, rank: int) -> int:
        try:
            segment = decode_segment(self._place.read(path), path)
        except (SegmentError, OSError) as error:
            self._damaged(path, error)
            return 0
        tensors = [self._keys.setdefault(key, len(self._keys)) for key in segment.tensors]
        phases = [self._phases.setdefault(phase, len(self._phases)) for phase in segment.phases]
        columns = dict(segment.columns)
        if segment.rows:
            columns["tensor"] = np.array(tensors, np.uint32)[segment.columns["tensor"]]
            columns["phase"] = np.array(phases, np.uint16)[segment.columns["phase"]]
        self._events += [(event, rank) for event in segment.events]
        self._parts.setdefault(rank, []).append(_Part(path, segment, columns))
        self._joined.pop(rank, None)
        return segment.rows

    def _damaged(self, path: str, error: Exception) -> None:
        self.damaged[path] = str(error)
        warnings.warn(f"tensometer: {error}; it is skipped", RuntimeWarning, stacklevel=5)

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

        Kinds are nonfinite, problem, config, gradients_missing, activations_not_seen, recorder, end.
        """
        found = [one for one, of in self._events if kind in (None, one.kind) and rank in (None, of)]
        return sorted(found, key=lambda event: event.step)

    def tensors(self, collection: str | None = None, regex: str | None = None) -> list[TensorKey]:
        """What was recorded, in the order of appearance; of one collection, with names that `regex` finds itself in."""
        pattern = None if regex is None else re.compile(regex)
        return [
            key
            for key in self._keys
            if (collection is None or key.collection == collection) and (pattern is None or pattern.search(key.name))
        ]

    def steps(self, phase: str | None = None, rank: int | None = None) -> npt.NDArray[np.int64]:
        """The steps that anything was recorded at, ascending, without repetition."""
        found = [np.zeros(0, np.int64)]
        for one in self.ranks if rank is None else [rank]:
            columns = self._rank(one).columns
            found.append(columns["step"][_in_phase(columns["phase"], self._phase_number(phase))])
        return np.unique(np.concatenate(found))

    def series(
        self, name: str, *, collection: str | None = None, phase: str | None = None, rank: int | None = None
    ) -> Series:
        """All rows of one tensor. KeyError for a name that was not recorded, with those nearest to it.

        collection: where several have the name. rank: by default the first that recorded it.
        """
        ids = [
            number
            for key, number in self._keys.items()
            if key.name == name and (collection is None or key.collection == collection)
        ]
        collections = sorted({key.collection for key, number in self._keys.items() if number in ids})
        if len(collections) > 1:
            raise KeyError(f"{name!r} is in several collections ({', '.join(collections)}); give collection=")
        for one in self.ranks if rank is None else [rank]:
            rows = self._rank(one).rows(ids, self._phase_number(phase))
            if len(rows):
                return self._series(rows, one)
        nearest = difflib.get_close_matches(name, [key.name for key in self._keys], 3)
        hint = f"; the nearest are {', '.join(nearest)}" if nearest else ""
        raise KeyError(f"{name!r} was not recorded{hint}")

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
            self._joined[rank] = _Joined(self._parts.get(rank, []), self._damaged)
        return self._joined[rank]


def _in_phase(phases: Column, phase: int | None) -> npt.NDArray[np.bool_]:
    if phase is None:
        return np.ones(len(phases), np.bool_)
    return np.asarray(phases.astype(np.int64) == phase)


def open_run(url: str | os.PathLike[str]) -> Run:
    """Open a run, finished or not. FileNotFoundError where there is none; see Run."""
    return Run(url)
