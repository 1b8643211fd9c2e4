"""Rules over a run that is stored, or being stored: in another process, or afterwards."""

import errno
import os
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from tensometer.checkpoint import reason
from tensometer.reference import reference_steps
from tensometer.rules import Engine, Finding, Rule, Step
from tensometer.rules.feed import StoredSteps
from tensometer.rules.ranks import Together
from tensometer.rules.settings import chosen
from tensometer.store import Segment, SegmentError, decode_segment, open_place
from tensometer.store.layout import END, SUFFIX, numbered, rank_folders, segment_number
from tensometer.store.listing import about_of

# Errors of a file, where its folder could be listed.
_OF_A_FILE = (errno.EISDIR, errno.ELOOP)


@dataclass
class _Rank:
    """What is known of one writer. next: the number of the segment to come. late: when it was missed first.

    engine, steps: of its last launch: where a process is begun again, its monitor's rules begin anew as well.
    """

    engine: Engine
    steps: StoredSteps
    launch: int = 0
    last: int = -1
    next: int = 0
    late: float | None = None
    ended: bool = False


class Replay:
    """The findings of a run, segment by segment. A run that a monitor has judged itself gives the same ones.

    rules: as Monitor takes them. told: called with a rule that has raised an exception, and with that; the rule is
    asked no more. skipped: called with a sentence for segments that cannot be read, or are missing; by default a
    RuntimeWarning. patience: so many seconds a segment is waited for that cannot be read, or is missing while later
    ones are there: as when a run is copied. stopped: asked between segments; if it says so, what is left is read later.
    Rules across ranks judge a step when all ranks of the run's world size have come by it, or the others are a minute
    ahead. FileNotFoundError where there is no run, TypeError or ValueError for wrong rules.
    """

    def __init__(
        self,
        url: str | os.PathLike[str],
        rules: object = True,
        *,
        told: Callable[[Rule, Exception], None] | None = None,
        skipped: Callable[[str], None] | None = None,
        patience: float = 0.0,
        stopped: Callable[[], bool] = lambda: False,
    ) -> None:
        self._rules: Sequence[Rule] = chosen(rules)
        self._place = open_place(url)
        size = about_of(self._place).get("world_size")
        self._world_size = max(1, size) if isinstance(size, int) else 1
        self._told, self._skipped, self._patience, self._stopped = told, skipped or _warn, patience, stopped
        self._ranks: dict[int, _Rank] = {}
        across = [rule for rule in self._rules if rule.across_ranks]
        self._across = Engine(across, load=reference_steps, told=told)
        self._together = Together(self._world_size)
        self.observed = 0
        # Whether anything was passed by.
        self.incomplete = False

    @property
    def ended(self) -> bool:
        """Whether all writers, as many as the run's world size, were closed, and nobody has continued the run."""
        return len(self._ranks) >= self._world_size and all(one.ended for one in self._ranks.values())

    @property
    def last_step(self) -> int:
        """The last step that any writer has stored; -1 before the first."""
        return max((one.last for one in self._ranks.values()), default=-1)

    @property
    def ranks(self) -> int:
        """How many writers there are so far."""
        return len(self._ranks)

    @property
    def waits(self) -> bool:
        """Whether a segment is missed that may still come."""
        return any(one.late is not None for one in self._ranks.values())

    def follow(self) -> Iterator[Finding]:
        """The findings of what has been stored since the last call. What cannot be read is skipped with a warning.

        OSError where the place does not answer: what was not read by then is read by the next call.
        """
        unread: dict[int, list[tuple[str, str]]] = {}
        for rank, folder in rank_folders(self._place).items():
            one = self._ranks.setdefault(rank, self._begun(rank))
            # What comes when later ones have been judged is late for rules, which judge forward.
            names = [name for name in numbered(self._place, folder) if segment_number(name) >= one.next]
            unread[rank] = [(f"{folder}/{name}", name) for name in reversed(names)]
        while (unread := {rank: names for rank, names in unread.items() if names}) and not self._stopped():
            # The rank that is furthest behind, so that steps to be compared wait for each other as shortly as may be.
            rank = min(unread, key=lambda rank: self._ranks[rank].last)
            one = self._ranks[rank]
            path, name = unread[rank].pop()
            segment, number = self._read(path), segment_number(name)
            if (number > one.next or isinstance(segment, str)) and self._waits(one):
                unread[rank].clear()
                continue
            if number > one.next:
                self._pass_by(_missing(path, one.next, number))
            one.next, one.late = number + 1, None
            if isinstance(segment, str):
                self._pass_by(f"{segment}; it is skipped")
            else:
                yield from self._judged(segment, rank, one)

    def finish(self) -> Iterator[Finding]:
        """The findings of steps that waited for other ranks, which will store nothing more."""
        yield from self._compared(self._together.rest())

    def waited(self, seconds: float) -> Iterator[Finding]:
        """The findings if nothing has come for so many seconds since the last step, though the run has not ended.

        Writers that are not closed are judged, but not those that the run was continued without.
        """
        latest = max((one.launch for one in self._ranks.values()), default=0)
        for one in self._ranks.values():
            if not one.ended and one.launch == latest:
                yield from one.engine.waited(seconds)

    def _begun(self, rank: int) -> _Rank:
        engine = Engine(self._rules, load=reference_steps, told=self._told)
        return _Rank(engine, StoredSteps(rank, engine.catalogue))

    def _read(self, path: str) -> Segment | str:
        """The segment, or why it is none. OSError for what is no matter of this file alone."""
        try:
            return decode_segment(self._place.read(path), path)
        except SegmentError as error:
            return str(error)
        except OSError as error:
            # A store answers EIO for whatever it has no number for.
            of_the_file = _OF_A_FILE if self._place.folder is None else (*_OF_A_FILE, errno.EIO)
            if isinstance(error, PermissionError | FileNotFoundError) or error.errno in of_the_file:
                return f"{path}: {reason(error)}"
            raise

    def _pass_by(self, sentence: str) -> None:
        self.incomplete = True
        self._skipped(sentence)

    def _waits(self, one: _Rank) -> bool:
        """Whether to wait for a segment that is missing, or of which the rest may be missing."""
        now = time.monotonic()
        one.late = now if one.late is None else one.late
        return now - one.late < self._patience

    def _judged(self, segment: Segment, rank: int, one: _Rank) -> Iterator[Finding]:
        if segment.launch != one.launch:
            begun = self._begun(rank)
            one.engine, one.steps, one.launch = begun.engine, begun.steps, segment.launch
        events = [replace(event, rank=rank) for event in segment.events]
        for step in one.steps.add(segment.columns, segment.tensors, segment.phases, events):
            one.last = step.number
            self.observed += 1
            yield from one.engine.judge(step)
            if self._across.rules:
                yield from self._compared(self._together.add(step.numbered_by(self._across.catalogue)))
        one.ended = any(event.kind == END for event in segment.events)
        if one.ended:
            yield from one.engine.finish(one.last, rank)
            yield from self._compared(self._together.end(rank))

    def _compared(self, ready: Iterator[list[Step]]) -> Iterator[Finding]:
        for steps in ready:
            yield from self._across.judge_ranks(steps)


def evaluate(url: str | os.PathLike[str], rules: object = True) -> list[Finding]:
    """All findings of a run, in the order of ranks and steps; see Replay. What a rule raises is raised."""
    replay = Replay(url, rules)
    return sorted([*replay.follow(), *replay.finish()], key=lambda finding: finding.rank)


def _missing(path: str, first: int, end: int) -> str:
    """A sentence for the segments before another one: from a number, to below its own."""
    begin, last = (f"{number:09d}{SUFFIX}" for number in (first, end - 1))
    folder = path.rpartition("/")[0]
    if end - first == 1:
        return f"{folder}/{begin}: is missing; it is skipped"
    return f"{folder}/{begin} to {last}: are missing; they are skipped"


def _warn(sentence: str) -> None:
    warnings.warn(f"tensometer: {sentence}", RuntimeWarning, stacklevel=4)
