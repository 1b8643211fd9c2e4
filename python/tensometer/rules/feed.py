"""Makes what rules judge: of the tables of a step that is being captured, and of what a run has stored."""

from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np

from tensometer._core import SummaryTable, statistics, unpack
from tensometer.rules.catalogue import Catalogue
from tensometer.rules.group import Array, Key
from tensometer.rules.step import Fact, Step

# Phase, what each row is about, and the rows.
Captured = tuple[str, Sequence[Key], SummaryTable]

# Events that follow of a step's rows, or of judging them: rules do not see them, live no more than from disk.
AFTERWARDS = frozenset({"finding", "problem", "recorder", "interrupted", "raw", "end"})


def captured_step(
    number: int, time: float, rank: int, parts: Sequence[Captured], events: Sequence[Fact], catalogue: Catalogue
) -> Step:
    """A step as it was captured. Lists of keys must not change: layouts are remembered by them."""
    columns: dict[str, Array] = {}

    def column(statistic: str) -> Array:
        if statistic not in columns:
            # Rules read the same ones at every step: they are made together.
            catalogue.asked[statistic] = None
            names = [name for name in catalogue.asked if name not in columns]
            columns.update(zip(names, statistics([table for _, _, table in parts], names), strict=True))
        return columns[statistic]

    return Step(
        number,
        time,
        rank,
        catalogue=catalogue,
        parts=[(phase, keys) for phase, keys, _ in parts],
        column=column,
        events=[event for event in events if event.kind not in AFTERWARDS],
    )


class StoredSteps:
    """The steps of one rank from its segments, which come in their order.

    All rows of a step are in one segment (docs/format.md). Those of steps that come late, as a flight recorder stores
    them, are left out: rules judge forward.
    """

    def __init__(self, rank: int, catalogue: Catalogue) -> None:
        self._rank, self._catalogue = rank, catalogue
        self._events: list[Fact] = []
        self._last = -1
        self._lists: dict[tuple[object, ...], tuple[Sequence[Key], list[tuple[str, list[Key]]]]] = {}

    def add(
        self, columns: dict[str, Array], keys: Sequence[Key], phases: Sequence[str], events: Sequence[Fact]
    ) -> Iterator[Step]:
        """The steps of a segment: its columns, and what the numbers in them mean."""
        self._events += [event for event in events if event.kind not in AFTERWARDS]
        steps = columns["step"]
        found: dict[str, Array] = {}

        def statistic(name: str) -> Array:
            if name not in found:
                found[name] = unpack(columns, name, len(steps))
            return found[name]

        bounds = np.flatnonzero(np.diff(steps, prepend=-1, append=-1)).tolist() if len(steps) else []
        for begin, end in pairwise(bounds):
            number = int(steps[begin])
            if number <= self._last:
                continue
            self._last = number
            rows = slice(begin, end)
            events = [event for event in self._events if event.step <= number]
            self._events = [event for event in self._events if event.step > number]
            yield Step(
                number,
                float(columns["time"][begin]),
                self._rank,
                catalogue=self._catalogue,
                parts=self._parts(keys, phases, columns["tensor"][rows], columns["phase"][rows]),
                column=lambda name, rows=rows: statistic(name)[rows],  # type: ignore[misc]
                events=events,
            )

    def _parts(
        self, keys: Sequence[Key], phases: Sequence[str], tensors: Array, of_phase: Array
    ) -> list[tuple[str, list[Key]]]:
        mark = (id(keys), tuple(phases), tensors.tobytes(), of_phase.tobytes())
        found = self._lists.get(mark)
        if found is None:
            if len(self._lists) >= 64:
                self._lists.clear()
            ends = [*np.flatnonzero(np.diff(of_phase)).tolist(), len(tensors) - 1]
            parts, begin = [], 0
            for end in ends:
                part = [keys[at] for at in tensors[begin : end + 1].tolist()]
                parts.append((phases[int(of_phase[begin])], part))
                begin = end + 1
            found = self._lists[mark] = (keys, parts)
        return found[1]
