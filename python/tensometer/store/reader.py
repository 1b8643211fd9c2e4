"""Reads a run, also while it is written."""

import dataclasses
import os
import time
import warnings
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tensometer.store.joined import Joined, Part
from tensometer.store.layout import END, RAW, segment_paths
from tensometer.store.listing import about_of, asked_for, in_phase, pattern_of
from tensometer.store.nearest import check_known, nearest
from tensometer.store.place import Place, open_place
from tensometer.store.ranks import Difference, differences, merged
from tensometer.store.raw import decode_raw
from tensometer.store.segment import Event, SegmentError, TensorKey, decode_segment
from tensometer.store.series import Series
from tensometer.store.table import Rows, Table, table_of

# Those of a model's own modes, which a run may come to.
_USUAL_PHASES = ("train", "eval")


class _Damage:
    """What could not be read. Not the run itself, which would then hold itself in memory until a garbage collection."""

    def __init__(self) -> None:
        self.sentences: dict[str, str] = {}

    def tell(self, path: str, error: Exception) -> None:
        """Keep why, and warn."""
        sentence = str(error) if isinstance(error, SegmentError) else f"{path}: {type(error).__name__}: {error}"
        self.sentences[path] = sentence
        warnings.warn(f"tensometer: {sentence}; it is skipped", RuntimeWarning, stacklevel=5)


class Run:
    """A run directory or URL. It shows the segments that were complete at the last refresh().

    A damaged segment is skipped: one RuntimeWarning names it, and `damaged` keeps its sentence; one that could not be
    fetched is tried again by refresh(). Histograms are read
    when the first is asked for; rows whose histograms are damaged have none.

    A collection, phase or rank that the run neither has recorded nor expects, by its settings, is a KeyError with those
    nearest to it.
    """

    def __init__(self, url: str | os.PathLike[str]) -> None:
        self._place: Place = open_place(url)
        self.url = self._place.url
        self._damage = _Damage()
        self._seen: set[str] = set()
        self._keys: dict[TensorKey, int] = {}
        self._phases: dict[str, int] = {}
        self._parts: dict[int, list[Part]] = {}
        self._joined: dict[int, Joined] = {}
        self._events: list[Event] = []
        self._last: dict[int, tuple[str, bool]] = {}  # of each rank: its last segment, and whether that is an end
        self._away = False
        self.about = about_of(self._place)
        self._read(segment_paths(self._place))

    def refresh(self) -> int:
        """Read what has been written since; returns the number of new rows.

        A place that cannot be listed has none: a RuntimeWarning says so once, and the next refresh() tries again.
        """
        try:
            found = list(segment_paths(self._place))
        except OSError as error:
            if not self._away:
                sentence = (
                    f"{self.url} cannot be listed: {type(error).__name__}: {error}; the next refresh() tries again"
                )
                warnings.warn(f"tensometer: {sentence}", RuntimeWarning, stacklevel=2)
            self._away = True
            return 0
        self._away = False
        return self._read(found)

    def _read(self, paths: Iterable[tuple[str, int]]) -> int:
        return sum(self._add(path, rank) for path, rank in paths if path not in self._seen)

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
        self._events += [dataclasses.replace(event, rank=rank) for event in segment.events]
        # Whoever continues a run writes behind its end. Segments may come late.
        end = any(event.kind == END for event in segment.events)
        self._last[rank] = max(self._last.get(rank, ("", False)), (path, end))
        parts = self._parts.setdefault(rank, [])
        parts.append(Part(path, segment, columns))
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
        """Facts that are no numbers, in the order of their steps, then in the order of writing; each tells its rank.

        Kinds are nonfinite, problem, config, gradients_missing, activations_not_seen, finding, update_skipped, stopped,
        recorder, interrupted, raw, end. KeyError for an unknown rank.
        """
        ranks = self._ranks(rank)
        found = [event for event in self._events if kind in (None, event.kind) and event.rank in ranks]
        return sorted(found, key=lambda event: event.step)

    def tensors(self, collection: str | None = None, regex: str | None = None) -> list[TensorKey]:
        """What was recorded, in the order of appearance; of one collection, with names that `regex` finds itself in.

        KeyError for an unknown collection.
        """
        self._check_collection(collection)
        pattern = pattern_of(regex)
        return [key for key in self._keys if asked_for(key, collection, pattern)]

    def steps(self, phase: str | None = None, rank: int | None = None) -> npt.NDArray[np.int64]:
        """The steps that anything was recorded at, ascending, without repetition.

        KeyError for an unknown phase or rank.
        """
        found = [np.zeros(0, np.int64)]
        number = self._phase_number(phase)
        for one in self._ranks(rank):
            columns = self._rank(one).columns
            found.append(columns["step"][in_phase(columns["phase"], number)])
        return np.unique(np.concatenate(found))

    def series(
        self, name: str, *, collection: str | None = None, phase: str | None = None, rank: int | None = None
    ) -> Series:
        """All rows of one tensor. KeyError for a name that was not recorded, with those nearest to it.

        collection: where several have the name. rank: by default the first that recorded it.
        """
        return next(self._parts_of(name, collection, phase, self._ranks(rank)))

    def _parts_of(self, name: str, collection: str | None, phase: str | None, ranks: Sequence[int]) -> Iterator[Series]:
        """The series of each rank that recorded a tensor, at least one."""
        self._check_collection(collection)
        number = self._phase_number(phase)
        named = [key for key in self._keys if key.name == name]
        keys = [key for key in named if collection in (None, key.collection)]
        collections = sorted({key.collection for key in keys})
        if len(collections) > 1:
            raise KeyError(f"{name!r} is in several collections ({', '.join(collections)}); give collection=")
        ids = [self._keys[key] for key in keys]
        recorded = False
        for rank in ranks:
            rows = self._rank(rank).rows(ids, number)
            if len(rows):
                recorded = True
                yield self._series(rows, rank)
        if recorded:
            return
        if not named:
            raise KeyError(f"{name!r} was not recorded{nearest(name, [key.name for key in self._keys])}")
        raise KeyError(f"{name!r} was not recorded {self._where(named, collection, phase, ranks)}")

    def _where(self, keys: list[TensorKey], collection: str | None, phase: str | None, ranks: Sequence[int]) -> str:
        """Of a tensor without the rows that were asked for: where that was, and where it has rows."""
        ids = [self._keys[key] for key in keys]
        rows = {rank: self._rank(rank).rows(ids, None) for rank in self.ranks}
        writers = [rank for rank, found in rows.items() if len(found)]
        numbers = {number for rank in writers for number in self._rank(rank).columns["phase"][rows[rank]].tolist()}
        collections = dict.fromkeys(key.collection for key in keys)
        phases = [name for name, number in self._phases.items() if number in numbers]
        asked = [] if collection is None else [f"in collection {collection!r}"]
        asked += [] if phase is None else [f"in phase {phase!r}"]
        asked += [] if ranks == self.ranks else [f"by rank {_listed(ranks)}"]
        there = f"in collections {', '.join(collections)}, phases {', '.join(phases)}, by ranks {_listed(writers)}"
        return f"{', '.join(asked)}; it was {there}"

    def table(
        self,
        *,
        collection: str | None = None,
        regex: str | None = None,
        phase: str | None = None,
        rank: int | None = None,
        statistics: Sequence[str] | None = None,
    ) -> Table:
        """All rows of some tensors as one table; by default of all tensors, with all statistics. See Table.

        None is no error: the table is empty. KeyError for an unknown collection, phase or rank.
        """
        keys = list(self._keys)
        number = self._phase_number(phase)
        numbers = [self._keys[key] for key in self.tensors(collection, regex)]
        parts = []
        for one in self._ranks(rank):
            joined = self._rank(one)
            rows = joined.rows(numbers, number)
            columns = joined.columns
            # Most often everything is wanted, and it lies in order.
            if len(rows) != len(columns["step"]) or bool((np.diff(rows) != 1).any()):
                columns = {name: column[rows] for name, column in columns.items()}
            parts.append(Rows(one, columns, keys, list(self._phases)))
        return table_of(parts, statistics)

    @property
    def ended(self) -> bool:
        """Whether all writers, as many as the run's world size, were closed, and nobody has continued the run."""
        return self._all_began and all(end for _, end in self._last.values())

    @property
    def _all_began(self) -> bool:
        return len(self._last) >= max(1, self._world_size)

    @property
    def _world_size(self) -> int:
        size = self.about.get("world_size")
        return size if isinstance(size, int) else 1

    def follow(self, *, poll: float = 1.0, timeout: float | None = None) -> Iterator[int]:
        """New steps, ascending, as they become whole, from the first on; ends when the run has.

        Rows that come late, of steps before those told of (as a flight recorder's), are read but not told of.

        A step is whole when all writers that go on have stored something of a later one. One that has not begun is
        waited for: where not every rank of the world size has a monitor, give a timeout. poll: seconds between looks.
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
            whole = None if self.ended or late else min(last) if self._all_began else 0
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
        self._check_collection(collection)
        self._phase_number(phase)
        wanted = {"collection": collection, "phase": phase}
        kept = [
            event
            for event in self.events(RAW, rank)
            if all(value is None or event.data.get(key) == value for key, value in wanted.items())
        ]
        named = [event for event in kept if event.data.get("name") == name]
        for event in reversed(named):  # the last of a step, as a series has it
            if event.step == step:
                path = str(event.data.get("file"))
                return decode_raw(self._place.read(path), path)
        if not named:
            near = nearest(name, [str(event.data.get("name")) for event in kept])
            raise KeyError(f"{name!r} was not kept whole{near}")
        steps = sorted({event.step for event in named}, key=lambda at: abs(at - step))[:5]
        raise KeyError(
            f"{name!r} was not kept whole at step {step}; it was at steps {', '.join(map(str, sorted(steps)))}"
        )

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

    def _check_collection(self, collection: str | None) -> None:
        if collection is not None:
            config = self.about.get("config")
            settings = config.get("collections") if isinstance(config, dict) else None
            expected = settings if isinstance(settings, dict) else ()
            check_known("collection", collection, [*(key.collection for key in self._keys), *expected])

    def _phase_number(self, phase: str | None) -> int | None:
        """None for all, -1 for a phase without rows."""
        if phase is None:
            return None
        check_known("phase", phase, [*self._phases, *_USUAL_PHASES])
        return self._phases.get(phase, -1)

    def _ranks(self, rank: int | None) -> list[int]:
        """That rank, by default all."""
        if rank is None:
            return self.ranks
        check_known("rank", rank, [*self._parts, *range(self._world_size)])
        return [rank]

    def _rank(self, rank: int) -> Joined:
        if rank not in self._joined:
            self._joined[rank] = Joined(self._parts.get(rank, []), self._damage.tell)
        return self._joined[rank]


def open_run(url: str | os.PathLike[str]) -> Run:
    """Open a run, finished or not. FileNotFoundError where there is none; see Run."""
    return Run(url)


def _listed(numbers: Sequence[int]) -> str:
    """Numbers in a sentence."""
    return ", ".join(map(str, numbers))
