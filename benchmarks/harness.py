"""Interleaved timing in one process: every round runs every side once, and ratios are taken round by round."""

import gc
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from itertools import repeat


class LeftOutError(Exception):
    """A case cannot run here; the message says what it lacks."""


@dataclass(frozen=True)
class Side:
    """One way to do a case's work. `context` is entered around a batch of calls, outside the timed part."""

    name: str
    call: Callable[[], object]
    context: Callable[[], AbstractContextManager[object]] = nullcontext


@dataclass(frozen=True)
class Case:
    """Work that several sides do on the same data. `check` raises WrongAnswerError when a side's answer is wrong.

    turns: so many times more rounds, where single ones scatter by more than what is to be told apart.
    """

    elements: int
    nbytes: int
    sides: tuple[Side, ...]
    check: Callable[[], None]
    turns: int = 1

    def side(self, name: str) -> Side:
        return next(side for side in self.sides if side.name == name)


@dataclass(frozen=True)
class Figures:
    """What is measured once, and is no time."""

    values: dict[str, float]


@dataclass(frozen=True)
class Ratio:
    """Median and quartiles over the rounds."""

    median: float
    low: float
    high: float


@dataclass(frozen=True)
class Measured:
    """Seconds a call of each side took, one number a round; or, of no elements, figures that are no times."""

    name: str
    elements: int
    nbytes: int
    seconds: dict[str, list[float]]

    def median(self, side: str) -> float:
        return statistics.median(self.seconds[side])

    def fastest(self, prefix: str = "") -> str:
        """The side with the smallest median among those whose name starts with `prefix`."""
        return min((side for side in self.seconds if side.startswith(prefix)), key=self.median)

    def speedup(self, side: str, over: str) -> Ratio:
        """How many times faster `side` is than `over`."""
        return spread([b / a for a, b in zip(self.seconds[side], self.seconds[over], strict=True)])

    def time(self, side: str, scale: float = 1.0) -> Ratio:
        return spread([scale * value for value in self.seconds[side]])


def spread(values: list[float]) -> Ratio:
    if len(values) == 1:
        return Ratio(values[0], values[0], values[0])
    low, median, high = statistics.quantiles(values, n=4, method="inclusive")
    return Ratio(median, low, high)


@contextmanager
def quiet_collector() -> Iterator[None]:
    """No garbage collection inside a timed batch; it would be charged to whichever side happened to trigger it."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def batch_seconds(side: Side, calls: int) -> float:
    call = side.call
    with side.context():
        start = time.perf_counter_ns()
        for _ in repeat(None, calls):
            call()
        return (time.perf_counter_ns() - start) / calls * 1e-9


def batch_size(side: Side, min_seconds: float) -> int:
    """Calls that fill `min_seconds`; the first call, which pays for page faults and imports, is not looked at."""
    calls = 1
    batch_seconds(side, 1)
    while (seconds := batch_seconds(side, calls) * calls) < min_seconds:
        calls = max(2 * calls, int(1.1 * calls * min_seconds / max(seconds, 1e-7)))
    return calls


def measure(name: str, case: Case, rounds: int, min_seconds: float) -> Measured:
    """Every other round runs the sides backwards, so that no side always follows the same one."""
    seconds: dict[str, list[float]] = {side.name: [] for side in case.sides}
    with quiet_collector():
        calls = {side.name: batch_size(side, min_seconds) for side in case.sides}
        for round_number in range(rounds * case.turns):
            for side in case.sides if round_number % 2 == 0 else reversed(case.sides):
                seconds[side.name].append(batch_seconds(side, calls[side.name]))
    return Measured(name, case.elements, case.nbytes, seconds)
