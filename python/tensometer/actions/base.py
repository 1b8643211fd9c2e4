"""What an action is, and which findings it is for."""

import difflib
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypedDict, Unpack

from tensometer.rules import Finding, Severity

# Called with a finding, and with the URL of the run that it is of ("" if that is not known).
Do = Callable[[Finding, str], object]


class Filter(TypedDict, total=False):
    """Keywords of every action: which findings it is for; see Limits. Those left out are as the action has them."""

    severity: str | Severity
    rules: Sequence[str] | None
    repeated: bool
    seconds: float
    most: int | None


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Which findings an action is for. TypeError or ValueError, naming the argument, for what means nothing.

    severity: the least. rules: names; None for all. repeated: also those that were found before, of the same tensors,
    and go on. seconds: at least so many between two of one rule. most: no more than so many in all, those that failed
    not counted.
    """

    severity: str | Severity = Severity.WARNING
    rules: Sequence[str] | None = None
    repeated: bool = False
    seconds: float = 0.0
    most: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "severity", Severity.of(self.severity))
        if self.rules is not None:
            if isinstance(self.rules, str) or not all(isinstance(name, str) for name in self.rules):
                raise TypeError(f"rules: {self.rules!r} is not a list of names")
            object.__setattr__(self, "rules", tuple(self.rules))
        if not isinstance(self.repeated, bool):
            raise TypeError(f"repeated: {self.repeated!r} is neither True nor False")
        check_seconds("seconds", self.seconds)
        if self.most is not None and (isinstance(self.most, bool) or not isinstance(self.most, int)):
            raise TypeError(f"most: {self.most!r} is not a whole number")
        if self.most is not None and self.most < 1:
            raise ValueError(f"most: {self.most} is less than 1")

    @classmethod
    def of(cls, given: Filter, **own: Unpack[Filter]) -> "Limits":
        """Those that are given, and for the rest an action's own."""
        chosen: Filter = {**own, **given}
        return cls(**chosen)

    def let_in(self, finding: Finding) -> bool:
        """Whether severity, rule and repetition are as asked for."""
        return (
            finding.severity >= Severity.of(self.severity)
            and (self.rules is None or finding.rule in self.rules)
            and (self.repeated or not finding.repeated)
        )


@dataclass
class Action:
    """Something that is done with a finding; called with one, it does so if the finding is one that it is for.

    name: how it is called in what is told of it: no secrets. do: does it. limits: which findings it is for.
    before_update: also asked before an optimizer uses gradients that a rule finds wrong. background: done in a thread
    of its own by whoever runs actions, because it takes its time. pauses: seconds between attempts, of which there is
    one more.
    """

    name: str
    do: Do
    limits: Limits = field(default_factory=Limits)
    before_update: bool = False
    background: bool = False
    pauses: tuple[float, ...] = ()
    _done: int = field(default=0, init=False)
    _last: dict[str, float] = field(default_factory=dict, init=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False, compare=False)

    def __call__(self, finding: Finding, run: str = "") -> None:
        """Do it, if the limits let the finding in. What goes wrong is raised."""
        if self.takes(finding):
            self.do(finding, run)

    def takes(self, finding: Finding) -> bool:
        """Whether the limits let a finding in, which then counts as done."""
        limits, now = self.limits, time.monotonic()
        if not limits.let_in(finding):
            return False
        with self._lock:
            if limits.most is not None and self._done >= limits.most:
                return False
            if now - self._last.get(finding.rule, -float("inf")) < limits.seconds:
                return False
            self._done += 1
            self._last[finding.rule] = now
        return True

    def failed(self) -> None:
        """What was taken could not be done: it does not count as done."""
        with self._lock:
            self._done -= 1

    def check(self, known: Sequence[str]) -> None:
        """Whether the rules that it is for are among those that are asked. ValueError that names the nearest."""
        for name in self.limits.rules or ():
            if name not in known:
                nearest = "".join(f"; did you mean {one!r}?" for one in difflib.get_close_matches(name, known, 1))
                raise ValueError(f"{self.name}: rules: {name!r} is none of the rules that are asked{nearest}")


def check_seconds(name: str, value: object) -> None:
    """A finite number of seconds from 0. TypeError or ValueError for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name}: {value!r} is not a number of seconds")
    if not 0 <= value < float("inf"):
        raise ValueError(f"{name}: {value} is not a number of seconds from 0")


def checked_timeout(value: object) -> float:
    """A finite number of seconds above 0."""
    check_seconds("timeout", value)
    if not value:
        raise ValueError("timeout: nothing can be done in 0 seconds")
    return float(value)  # type: ignore[arg-type]


def checked_pauses(value: object) -> tuple[float, ...]:
    """A list of seconds, as a tuple."""
    if not isinstance(value, list | tuple):
        raise TypeError(f"pauses: {value!r:.100} is not a list of seconds")
    for one in value:
        check_seconds("pauses", one)
    return tuple(value)


class PermanentError(Exception):
    """Of an attempt: another would fail as well."""


def action(given: object, argument: str = "on_finding") -> Action:
    """An action; of a function one that is called with every finding. TypeError for what cannot be called."""
    if isinstance(given, Action):
        return given
    if not callable(given):
        raise TypeError(f"{argument}: {given!r:.100} cannot be called")
    everything = Limits(severity=Severity.INFO, repeated=True)
    return Action(_name(given), lambda finding, _: given(finding), everything)


def actions_of(given: object) -> list[Action]:
    """The actions of one, of a list of them, or of None. TypeError for anything else."""
    if given is None:
        return []
    return [action(one) for one in (given if isinstance(given, list | tuple) else [given])]


def _name(function: object) -> str:
    return str(getattr(function, "__qualname__", None) or type(function).__name__)
