"""Follows some runs at once, each in a thread: one in a bucket that does not answer keeps no other waiting."""

import math
import queue
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tensometer.actions import Action
from tensometer.checkpoint import reason
from tensometer.rules import Finding, Rule, Severity
from tensometer.watch.changes import Changes
from tensometer.watch.findings_file import FindingsFile
from tensometer.watch.followed import Followed, Status
from tensometer.watch.views import View

# Seconds between looks at a run of which nothing is heard: behind a URL each is some requests over the network.
_LOCAL_SECONDS, _REMOTE_SECONDS = 1.0, 5.0
# Between looks for a local run that is not there yet.
_BEFORE_SECONDS = 0.1
# How long all together may take to write down what they have found, when a person or the system ends the watch.
_STOP_SECONDS = 2.0
# How often a view is drawn at least.
_REFRESH_SECONDS = 0.5

_News = Callable[[], None]


@dataclass(frozen=True)
class Options:
    """How runs are watched.

    once: what is there, not what is to come. findings: a file for all runs, instead of one in each. actions: called for
    each run, which has its own. timeout: seconds without news from a run after which it is waited for no longer.
    """

    rules: Sequence[Rule]
    once: bool = False
    findings: Path | None = None
    actions: Callable[[], Sequence[Action]] = list
    timeout: float | None = None


@dataclass
class Outcome:
    """What came of it. counts: findings by severity, of each run. failed: runs that could not be read, and why."""

    counts: dict[str, Counter[Severity]] = field(default_factory=dict)
    statuses: dict[str, Status] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)

    @property
    def worst(self) -> Severity | None:
        """Of all findings, those that were known before included."""
        return max((severity for counts in self.counts.values() for severity in counts), default=None)


def watch(runs: Sequence[str], options: Options, view: View) -> Outcome:
    """Follow runs until they have ended, or nothing was heard of them for too long; what came of it.

    TypeError or ValueError for URLs and actions that are none.
    """
    watching = _Watching(options, view)
    followed = [watching.followed(run) for run in dict.fromkeys(runs)]
    for one in followed:
        watching.tell(one.status)  # in the order that was given, whichever is read first
    if options.once:
        for one in followed:
            watching.look_once(one)
        watching.show()
    else:
        watching.follow(followed)
    return watching.outcome


class _Watching:
    def __init__(self, options: Options, view: View) -> None:
        self._options, self._view = options, view
        self._file = None if options.findings is None else FindingsFile.at(options.findings)
        # Not a SimpleQueue: one whose time is up between its two looks waits for ever (CPython 3.11).
        self._news: queue.Queue[_News] = queue.Queue()
        self._stop = threading.Event()
        self.outcome = Outcome()

    def followed(self, run: str) -> Followed:
        """A run, whose news come to the view by way of a queue: it is followed in a thread of its own."""
        counts = self.outcome.counts[run] = Counter()

        def found(finding: Finding) -> None:
            def tell() -> None:
                counts[finding.severity] += 1
                self._view.found(run, finding)

            self._news.put(tell)

        return Followed(
            run,
            self._options.rules,
            file=self._file or FindingsFile.of_run(run),
            actions=self._options.actions(),
            found=found,
            note=lambda sentence: self._news.put(lambda: self._view.note(sentence)),
            once=self._options.once,
            stopped=self._stop.is_set,
        )

    def look_once(self, one: Followed) -> None:
        """Judge what is there."""
        try:
            one.look()
            self.tell(one.finish())
            one.close()
        except (OSError, TypeError, ValueError) as error:
            self._fail(one, error)
        self.show()

    def follow(self, followed: Sequence[Followed]) -> None:
        """Judge what comes, each run in a thread of its own, until all have ended."""
        threads = [threading.Thread(target=self._follow, args=(one,), daemon=True) for one in followed]
        for thread in threads:
            thread.start()
        try:
            while any(thread.is_alive() for thread in threads):
                self.show(_REFRESH_SECONDS)
        finally:
            self._stop.set()
            end = time.monotonic() + _STOP_SECONDS
            for thread in threads:
                thread.join(max(0.0, end - time.monotonic()))
        self.show()

    def _follow(self, one: Followed) -> None:
        remote = one.folder is None
        changes = Changes(one.folder, self._stop)
        timeout = self._options.timeout
        seconds = min(_REMOTE_SECONDS if remote else _LOCAL_SECONDS, timeout or math.inf)
        try:
            while not self._stop.is_set():
                status = one.look()
                self.tell(status)
                if one.done:
                    break
                if timeout is not None and time.monotonic() - one.news > timeout:
                    self._give_up(one, status, timeout)
                    break
                if status.begun:
                    changes.wait(seconds)
                else:
                    self._stop.wait(seconds if remote else _BEFORE_SECONDS)
            if not self._stop.is_set():
                self.tell(one.finish())
            one.close()
        except Exception as error:  # of this run alone: the others go on
            self._fail(one, error)

    def _give_up(self, one: Followed, status: Status, timeout: float) -> None:
        if status.begun and not one.unread:
            sentence = f"{one.url}: nothing new for {timeout:g} seconds; it is watched no longer"
            self._news.put(lambda: self._view.note(sentence))
        else:
            self._failed(one, f"{one.unread or status.sentence}, after {timeout:g} seconds")

    def tell(self, status: Status) -> None:
        """What is known of a run."""
        self.outcome.statuses[status.run] = status

    def _fail(self, one: Followed, error: Exception) -> None:
        self._failed(one, reason(error))
        self.tell(Status(one.url, sentence="cannot be read"))

    def _failed(self, one: Followed, text: str) -> None:
        self.outcome.failed[one.url] = text if one.url in text else f"{one.url}: {text}"

    def show(self, seconds: float = 0.0) -> None:
        """Tell the view what has happened; what happens within so many seconds, at once."""
        end = time.monotonic() + seconds
        while True:
            left = end - time.monotonic()
            try:
                news = self._news.get(timeout=left) if left > 0 else self._news.get_nowait()
            except queue.Empty:
                break
            news()
        self._view.progress(list(self.outcome.statuses.values()))
