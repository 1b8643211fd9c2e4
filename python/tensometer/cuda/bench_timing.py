"""Times of things that take turns: by the device's clock, and by the host's for what it costs to ask for them."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from tensometer.cuda.devices import wait

Call = Callable[[], object]


class WrongAnswerError(AssertionError):
    """What would be timed gives a wrong answer; the message says what and which."""


@dataclass(frozen=True)
class Time:
    """Seconds on the device from when it can begin until it is done, and seconds until the host's call returns."""

    device: float
    host: float


class Timer(Protocol):
    """Takes the time of one call."""

    def time(self, call: Call, busy: bool) -> Time:
        """busy: the device has work before it, so that it need not wait for the host."""


class CudaTimer:
    """By two events around the call on torch's current stream."""

    def __init__(self, device: Any, scratch: int = 1 << 29) -> None:
        import torch

        self._device = device
        self._event: Callable[..., Any] = torch.cuda.Event
        self._from = torch.zeros(scratch, dtype=torch.uint8, device=device)
        self._to = torch.empty_like(self._from)

    def time(self, call: Call, busy: bool) -> Time:
        """Waits before and afterwards."""
        start, end = (self._event(enable_timing=True) for _ in range(2))
        wait(self._device)
        if busy:
            self._to.copy_(self._from)  # which also leaves nothing of the call's data in the device's caches
        start.record()
        began = time.perf_counter()
        kept = call()  # results are given back when the clocks have stopped
        host = time.perf_counter() - began
        end.record()
        end.synchronize()
        del kept
        return Time(start.elapsed_time(end) * 1e-3, host)


@dataclass(frozen=True)
class Case:
    """Work that several sides do on the same data. check raises WrongAnswerError when one of them is wrong.

    nbytes: of the data. busy: see Timer.
    """

    name: str
    nbytes: int
    sides: Mapping[str, Call]
    check: Call
    busy: bool = True


@dataclass(frozen=True)
class Spread:
    """Median and quartiles."""

    median: float
    low: float
    high: float


@dataclass(frozen=True)
class Measured:
    """One time a round of each side; of a capture also how many summaries it dropped instead of taking them."""

    name: str
    nbytes: int
    times: dict[str, list[Time]]
    dropped: dict[str, int] = field(default_factory=dict)

    def device(self, side: str) -> Spread:
        """Seconds on the device."""
        return spread([one.device for one in self.times[side]])

    def host(self, side: str) -> Spread:
        """Seconds of the host's."""
        return spread([one.host for one in self.times[side]])

    def ratio(self, side: str, over: str) -> Spread:
        """Device time of one side over that of another, round by round."""
        pairs = zip(self.times[side], self.times[over], strict=True)
        return spread([one.device / other.device for one, other in pairs])


def spread(values: list[float]) -> Spread:
    """Of at least one value."""
    if len(values) == 1:
        return Spread(values[0], values[0], values[0])
    low, median, high = statistics.quantiles(values, n=4, method="inclusive")
    return Spread(median, low, high)


def measure(case: Case, timer: Timer, rounds: int) -> Measured:
    """Answers first, then turns; every other round runs the sides backwards, so that none always follows the same."""
    case.check()
    for call in case.sides.values():  # loads kernels, fills caches of memory
        timer.time(call, case.busy)
    times: dict[str, list[Time]] = {side: [] for side in case.sides}
    for number in range(rounds):
        order = list(case.sides) if number % 2 == 0 else list(case.sides)[::-1]
        for side in order:
            times[side].append(timer.time(case.sides[side], case.busy))
    return Measured(case.name, case.nbytes, times)


def require(right: bool, what: str) -> None:
    """WrongAnswerError with that sentence unless it is right."""
    if not right:
        raise WrongAnswerError(what)
