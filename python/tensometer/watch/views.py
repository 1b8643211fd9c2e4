"""What a person sees of runs that are followed."""

import signal
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol, TextIO

from tensometer.checkpoint import counted, printable
from tensometer.extras import available
from tensometer.report.table import write_text
from tensometer.rules import Finding, Severity
from tensometer.watch.followed import Status

_STYLES = {Severity.FATAL: "bold red", Severity.ERROR: "red", Severity.WARNING: "yellow", Severity.INFO: "dim"}
# Columns that are cut where a terminal is narrow.
_LONG = ("run", "worst", "what", "")
# Seconds over which the speed of a run is taken.
_SPEED = 30.0


class View(Protocol):
    """Is told what happens, in one thread."""

    def found(self, run: str, finding: Finding) -> None:
        """A finding."""

    def note(self, sentence: str) -> None:
        """Something is wrong with a run, a file or an action."""

    def progress(self, statuses: Sequence[Status]) -> None:
        """How far the runs are."""


class PlainView:
    """Lines: findings on one stream, notes on another."""

    def __init__(self, stream: TextIO, notes: TextIO | None, *, several: bool) -> None:
        self._stream, self._notes, self._several = stream, notes, several
        self._explained: set[str] = set()

    def found(self, run: str, finding: Finding) -> None:
        """One line, and of each rule once what it may come from."""
        lines = [line_of(run if self._several else "", finding)]
        if finding.rule not in self._explained:
            self._explained.add(finding.rule)
            lines += [f"    {text}" for text in explanations(finding)]
        write_text(self._stream, "".join(f"{line}\n" for line in lines))
        self._stream.flush()

    def note(self, sentence: str) -> None:
        """One line."""
        if self._notes is not None:
            write_text(self._notes, f"tensometer: {printable(sentence)}\n")
            self._notes.flush()

    def progress(self, statuses: Sequence[Status]) -> None:
        """Nothing: lines that say that all is well would hide the others."""


def line_of(run: str, finding: Finding) -> str:
    """A finding as a line."""
    where = f"{run}: " if run else ""
    again = " (again)" if finding.repeated else ""
    rank = f" rank {finding.rank}" if finding.rank else ""
    text = f"{where}step {finding.step}{rank}: {finding.severity.label} [{finding.rule}] {finding.sentence}{again}"
    return printable(text)


def explanations(finding: Finding) -> Iterator[str]:
    """What a finding may come from, and what to try."""
    for what, texts in (("perhaps", finding.causes), ("try", finding.remedies)):
        if texts:
            yield printable(f"{what}: {'; '.join(texts)}")


class LiveView:
    """Tables that follow: the runs with their speed, and of each rule the worst tensor; findings scroll by above.

    Text objects throughout: in strings rich would obey markup, and names come from files.
    """

    def __init__(self, live: Any, *, several: bool) -> None:
        self._live, self._several = live, several
        self._counts: dict[str, Counter[Severity]] = {}
        self._rules: dict[str, _Seen] = {}
        self._speeds: dict[str, deque[tuple[float, int]]] = {}

    def found(self, run: str, finding: Finding) -> None:
        """A line above the tables, unless it goes on from an earlier one."""
        self._counts.setdefault(run, Counter())[finding.severity] += 1
        self._rules.setdefault(finding.rule, _Seen(finding)).add(run, finding)
        if not finding.repeated:
            self._print(line_of(run if self._several else "", finding), _STYLES[finding.severity])

    def note(self, sentence: str) -> None:
        """A line above the tables."""
        self._print(f"tensometer: {printable(sentence)}", "magenta")

    def _print(self, line: str, style: str) -> None:
        self._live.console.print(_text(line, style), soft_wrap=True)

    def progress(self, statuses: Sequence[Status]) -> None:
        """The tables anew."""
        self._live.update(_group(self._runs(statuses), *([self._findings()] if self._rules else [])))

    def _runs(self, statuses: Sequence[Status]) -> Any:
        rows = []
        for status in statuses:
            counts = self._counts.get(status.run, Counter())
            found = ", ".join(counted_severities(counts)) or "none"
            state = status.sentence or ("ended" if status.ended else "")
            step = "" if status.step < 0 else str(status.step)
            rows.append((status.run, step, self._speed(status), str(status.ranks), found, state))
        return _table(("run", "step", "steps/s", "ranks", "findings", ""), rows)

    def _speed(self, status: Status) -> str:
        history = self._speeds.setdefault(status.run, deque())
        now = time.monotonic()
        if not history or status.step != history[-1][1]:
            history.append((now, status.step))
        while len(history) > 2 and now - history[0][0] > _SPEED:
            history.popleft()
        (first, begin), (_, end) = history[0], history[-1]
        return f"{(end - begin) / (now - first):.1f}" if len(history) > 1 and begin >= 0 and now > first else ""

    def _findings(self) -> Any:
        worst = sorted(self._rules.values(), key=lambda seen: (-seen.worst.severity, -seen.worst.step))
        height = max(3, self._live.console.height // 2 - 6)
        rows = [
            (one.worst.severity.label, one.worst.rule, str(len(one.tensors)), one.worst.tensor, one.steps, one.sentence)
            for one in worst[:height]
        ]
        return _table(("severity", "rule", "tensors", "worst", "steps", "what"), rows)


class _Seen:
    """What a rule has found: the worst, and in all."""

    def __init__(self, finding: Finding) -> None:
        self.worst, self.first, self.last = finding, finding.step, finding.step
        self.tensors: set[tuple[str, int, str]] = set()

    def add(self, run: str, finding: Finding) -> None:
        """One more. The later is worse if it is as severe."""
        if finding.severity >= self.worst.severity:
            self.worst = finding
        self.first, self.last = min(self.first, finding.step), max(self.last, finding.step)
        self.tensors |= {(run, finding.rank, name) for name in (finding.tensor, *finding.others) if name}

    @property
    def steps(self) -> str:
        """From the first to the last."""
        return str(self.first) if self.first == self.last else f"{self.first} - {self.last}"

    @property
    def sentence(self) -> str:
        """That of the worst."""
        return self.worst.sentence


def _text(line: str, style: str = "") -> Any:
    from rich.text import Text

    return Text(line, style)


def _group(*parts: Any) -> Any:
    from rich.console import Group

    return Group(*parts)


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> Any:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold", expand=False)
    for at, heading in enumerate(headings):
        width = max(len(heading), *(len(row[at]) for row in rows))
        table.add_column(heading, overflow="ellipsis", no_wrap=True, min_width=1 if heading in _LONG else width)
    for row in rows:
        table.add_row(*(_text(printable(cell)) for cell in row))
    return table


def counted_severities(counts: "Counter[Severity]") -> Iterator[str]:
    """Such as `2 errors`, the worst first."""
    for severity in sorted(counts, reverse=True):
        label = severity.label
        yield f"{counts[severity]} {label}" if label in ("info", "fatal") else counted(counts[severity], label)


@contextmanager
def view_of(stream: TextIO, *, several: bool) -> Iterator[View]:
    """Live tables on a terminal, if rich is there to draw them; lines otherwise."""
    live = available("rich.live") if stream.isatty() else None
    if live is None:
        yield PlainView(stream, sys.stderr, several=several)
        return
    from rich.console import Console

    console = Console(file=stream, highlight=False, emoji=False)
    shown = live.Live(console=console, refresh_per_second=4, redirect_stdout=False, redirect_stderr=False)
    try:
        with _undisturbed():
            shown.start()
        yield LiveView(shown, several=several)
    finally:
        with _undisturbed():
            shown.stop()


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Signals that end the process wait: in the midst of it a terminal would stay without its cursor."""
    came: list[int] = []
    before = {}
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            if callable(signal.getsignal(number)):
                before[number] = signal.signal(number, lambda number, _: came.append(number))
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if came:
        signal.raise_signal(came[0])
