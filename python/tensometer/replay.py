"""Rules over a run that is stored, or being stored: in another process, or afterwards."""

import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from tensometer.rules import Engine, Finding, Rule
from tensometer.rules.feed import StoredSteps
from tensometer.rules.settings import chosen
from tensometer.store import SegmentError, decode_segment, open_place
from tensometer.store.layout import END, segment_paths
from tensometer.store.listing import about_of


@dataclass
class _Rank:
    engine: Engine
    steps: StoredSteps
    last: int = -1


class Replay:
    """The findings of a run, segment by segment. A run that a monitor has judged itself gives the same ones.

    rules: as Monitor takes them. told: called with a rule that has raised an exception, and with that; the rule is
    asked no more. FileNotFoundError where there is no run, TypeError or ValueError for wrong rules.
    """

    def __init__(
        self,
        url: str | os.PathLike[str],
        rules: object = True,
        *,
        told: Callable[[Rule, Exception], None] | None = None,
    ) -> None:
        self._rules: Sequence[Rule] = chosen(rules)
        self._place = open_place(url)
        about_of(self._place)
        self._told = told
        self._ranks: dict[int, _Rank] = {}
        self._seen: set[str] = set()

    def follow(self) -> Iterator[Finding]:
        """The findings of what has been stored since the last call. Damaged segments are skipped with a warning."""
        for path, rank in segment_paths(self._place):
            if path not in self._seen:
                yield from self._judged(path, rank)

    def _judged(self, path: str, rank: int) -> Iterator[Finding]:
        try:
            segment = decode_segment(self._place.read(path), path)
        except SegmentError as error:
            self._seen.add(path)
            warnings.warn(f"tensometer: {error}; it is skipped", RuntimeWarning, stacklevel=3)
            return
        self._seen.add(path)
        if rank not in self._ranks:
            engine = Engine(self._rules, told=self._told)
            self._ranks[rank] = _Rank(engine, StoredSteps(rank, engine.catalogue))
        one = self._ranks[rank]
        events = [replace(event, rank=rank) for event in segment.events]
        for step in one.steps.add(segment.columns, segment.tensors, segment.phases, events):
            one.last = step.number
            yield from one.engine.judge(step)
        if any(event.kind == END for event in segment.events):
            yield from one.engine.finish(one.last, rank)


def evaluate(url: str | os.PathLike[str], rules: object = True) -> list[Finding]:
    """All findings of a run, in the order of ranks and steps; see Replay. What a rule raises is raised."""
    return list(Replay(url, rules).follow())
