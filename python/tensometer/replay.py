"""Rules over a run that is stored, or being stored: in another process, or afterwards."""

import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from tensometer.reference import reference_steps
from tensometer.rules import Engine, Finding, Rule, Step
from tensometer.rules.feed import StoredSteps
from tensometer.rules.ranks import Together
from tensometer.rules.settings import chosen
from tensometer.store import SegmentError, decode_segment, open_place
from tensometer.store.layout import END, segment_paths
from tensometer.store.listing import about_of


@dataclass
class _Rank:
    """A rank since its process was begun the last time: then its monitor's rules began anew as well."""

    engine: Engine
    steps: StoredSteps
    launch: int
    last: int = -1


class Replay:
    """The findings of a run, segment by segment. A run that a monitor has judged itself gives the same ones.

    rules: as Monitor takes them. told: called with a rule that has raised an exception, and with that; the rule is
    asked no more. FileNotFoundError where there is no run, TypeError or ValueError for wrong rules. Rules across ranks
    judge a step when all ranks of the run's world size have come by it, or the others are a minute ahead.
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
        size = about_of(self._place).get("world_size")
        self._told = told
        self._ranks: dict[int, _Rank] = {}
        across = [rule for rule in self._rules if rule.across_ranks]
        self._across = Engine(across, load=reference_steps, told=told)
        self._together = Together(size if isinstance(size, int) else 1)
        self._seen: set[str] = set()

    def follow(self) -> Iterator[Finding]:
        """The findings of what has been stored since the last call. Damaged segments are skipped with a warning."""
        waiting: dict[int, list[str]] = {}
        for path, rank in segment_paths(self._place):
            if path not in self._seen:
                waiting.setdefault(rank, []).append(path)
        while waiting:
            # The rank that is furthest behind, so that steps to be compared wait for each other as shortly as may be.
            rank = min(waiting, key=lambda rank: self._ranks[rank].last if rank in self._ranks else -1)
            yield from self._judged(waiting[rank].pop(0), rank)
            if not waiting[rank]:
                del waiting[rank]

    def finish(self) -> Iterator[Finding]:
        """The findings of steps that waited for other ranks, which will store nothing more."""
        yield from self._compared(self._together.rest())

    def _judged(self, path: str, rank: int) -> Iterator[Finding]:
        try:
            segment = decode_segment(self._place.read(path), path)
        except SegmentError as error:
            self._seen.add(path)
            warnings.warn(f"tensometer: {error}; it is skipped", RuntimeWarning, stacklevel=3)
            return
        self._seen.add(path)
        one = self._ranks.get(rank)
        if one is None or one.launch != segment.launch:
            engine = Engine(self._rules, load=reference_steps, told=self._told)
            one = self._ranks[rank] = _Rank(engine, StoredSteps(rank, engine.catalogue), segment.launch)
        events = [replace(event, rank=rank) for event in segment.events]
        for step in one.steps.add(segment.columns, segment.tensors, segment.phases, events):
            one.last = step.number
            yield from one.engine.judge(step)
            if self._across.rules:
                yield from self._compared(self._together.add(step.numbered_by(self._across.catalogue)))
        if any(event.kind == END for event in segment.events):
            yield from one.engine.finish(one.last, rank)
            yield from self._compared(self._together.end(rank))

    def _compared(self, ready: Iterator[list[Step]]) -> Iterator[Finding]:
        for steps in ready:
            yield from self._across.judge_ranks(steps)


def evaluate(url: str | os.PathLike[str], rules: object = True) -> list[Finding]:
    """All findings of a run, in the order of ranks and steps; see Replay. What a rule raises is raised."""
    replay = Replay(url, rules)
    return sorted([*replay.follow(), *replay.finish()], key=lambda finding: finding.rank)
