"""One run that is followed."""

import errno
import os
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from tensometer.actions import Action, Runner
from tensometer.checkpoint import reason
from tensometer.replay import Replay
from tensometer.rules import Finding, Rule
from tensometer.store import open_place
from tensometer.watch.findings_file import FindingsFile

# How long a segment is waited for that is missing while later ones are there.
_PATIENCE = 5.0
# How long actions wait for a file of findings that may come back.
_FILE_SECONDS = 60.0
# Actions that take their time are waited for at the end.
_ACTION_SECONDS = 30.0
# What does not pass by itself, or not soon. Stores raise errors of a kind without a number.
_LASTING_KINDS = (PermissionError, FileNotFoundError, NotADirectoryError, IsADirectoryError)
_LASTING = (errno.EROFS, errno.ENOSPC, errno.EDQUOT)


@dataclass
class Status:
    """What is known of a run. sentence: why nothing is known at present, or "". broken: rules that have raised."""

    run: str
    step: int = -1
    observed: int = 0
    ranks: int = 0
    begun: bool = False
    ended: bool = False
    sentence: str = ""
    broken: tuple[str, ...] = ()


class Followed:
    """Judges what a run has stored since the last look, writes findings down, and acts on new ones.

    found: called with each finding. note: called with sentences about what is wrong. file: where findings are written;
    None for none. stopped: asked between segments; if it says so, a look ends there.
    """

    def __init__(
        self,
        url: str,
        rules: Sequence[Rule],
        *,
        file: FindingsFile | None,
        actions: Sequence[Action],
        found: Callable[[Finding], None],
        note: Callable[[str], None],
        once: bool = False,
        stopped: Callable[[], bool] = lambda: False,
    ) -> None:
        self._place = open_place(url)
        folder = self._place.folder
        self.folder = None if folder is None else folder.absolute()
        self.url = url
        self._name = self._place.url if self.folder is None else str(self.folder)
        self._rules, self._file, self._found, self._note, self._once = rules, file, found, note, once
        self._stopped = stopped
        names = [rule.name for rule in rules]
        self._runner = Runner(actions, run=self._name, rules=names, told=note)
        self._runner.begin()
        self._replay: Replay | None = None
        # Not written yet; of those, so many are acted on already.
        self._waiting: list[Finding] = []
        self._acted = 0
        self._broken: list[str] = []
        # Why the run cannot be read ("run"), or findings not be written ("file"), and since when.
        self._trouble: dict[str, str] = {}
        self._since: dict[str, float] = {}
        self.news = time.monotonic()

    def look(self) -> Status:
        """Judge what is new. FileNotFoundError, TypeError or ValueError if there is no run, and none is waited for."""
        before = self._replay.observed if self._replay else -1
        try:
            if self._replay is None:
                patience = 0.0 if self._once else _PATIENCE
                self._replay = Replay(
                    self.url,
                    self._rules,
                    told=self._rule_failed,
                    skipped=lambda sentence: self._note(f"{self.url}: {sentence}"),
                    patience=patience,
                    stopped=self._stopped,
                )
            self._take(self._replay.follow())
            self._well("run")
        except OSError as error:
            if self._once:
                raise
            if not (self._replay is None and isinstance(error, FileNotFoundError)):
                self._ill("run", error)
        if self._replay is not None and self._replay.observed != before:
            self.news = time.monotonic()
        elif self._replay is not None and not (self._once or self._replay.waits or "run" in self._trouble):
            self._take(self._replay.waited(time.monotonic() - self.news))
        self._write_and_act()
        return self.status

    def finish(self) -> Status:
        """Judge what has waited for more: nothing more is read. ValueError if nothing of the run could be."""
        if self._replay is not None:
            self._take(self._replay.finish())
            self._write_and_act()
            if self._replay.incomplete and not self._replay.observed:
                raise ValueError("no segment of it can be read")
        return self.status

    @property
    def unread(self) -> str:
        """Why the run cannot be read at present, or ""."""
        return self._trouble.get("run", "")

    def _take(self, findings: Iterable[Finding]) -> None:
        for finding in findings:
            self._waiting.append(finding)
            self._found(finding)

    @property
    def status(self) -> Status:
        """What is known of the run."""
        replay = self._replay
        sentence = "; ".join(self._trouble.values())
        if replay is None:
            return Status(self.url, sentence=sentence or "there is no run yet")
        ended = replay.ended and "run" not in self._trouble and not replay.waits
        reached = (replay.last_step, replay.observed, replay.ranks)
        return Status(self.url, *reached, True, ended, sentence, tuple(self._broken))

    @property
    def done(self) -> bool:
        """Whether the run has ended, and all is done with what was found."""
        return self.status.ended and self._acted == len(self._waiting)

    def _write_and_act(self) -> None:
        # Written first: what is done for a finding that is not would be done again after a restart.
        findings, begin, new = self._waiting, self._acted, [True] * len(self._waiting)
        named = [(self._name, finding) for finding in findings]
        if findings and self._file is not None:
            try:
                new = self._file.new(named)
                new = self._file.add(named)
                self._well("file")
            except OSError as error:
                self._ill("file", error)
                if self._once or _lasts(error):
                    self._file = None
                elif time.monotonic() - self._since["file"] < _FILE_SECONDS:
                    return
        if self._file is not None and "file" in self._trouble:
            self._acted = len(findings)  # they are still written when the file is back
        else:
            self._waiting, self._acted = [], 0
        for finding, first in zip(findings[begin:], new[begin:], strict=True):
            # What actions ask of a training cannot be had from here.
            if first:
                self._runner.run(finding)
        self._runner.tell()

    def _ill(self, what: str, error: OSError) -> None:
        name = os.fspath(error.filename) if isinstance(error.filename, str | os.PathLike) else self.url
        sentence = f"{name}: {reason(error)}"
        if what not in self._trouble:
            self._since[what] = time.monotonic()
            self._note(f"{sentence}; " + ("it is tried again" if what == "run" else "findings are not written"))
        self._trouble[what] = sentence

    def _well(self, what: str) -> None:
        if self._trouble.pop(what, None) is not None:
            self._note(f"{self.url}: is back" if what == "run" else f"{self.url}: findings are written again")

    def _rule_failed(self, rule: Rule, error: Exception) -> None:
        self._broken.append(rule.name)
        self._note(f"{self.url}: the rule {rule.name} is asked no more: {type(error).__name__}: {error}")

    def close(self) -> None:
        """Wait for actions that take their time."""
        self._runner.close(_ACTION_SECONDS)


def _lasts(error: OSError) -> bool:
    """Whether findings cannot be written for long, so that it is better to act without."""
    return isinstance(error, _LASTING_KINDS) or error.errno in _LASTING
