"""Runs that are watched, for tests of who watches them."""

import json
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from own_rules import TooLarge
from tensometer import Finding, Monitor, actions
from tensometer.rules import Rule
from tensometer.watch import Options, Outcome, Status, watch

RULES = [TooLarge()]


class Seen:
    """A view that keeps what it is told, and when."""

    def __init__(self) -> None:
        self.findings: list[tuple[str, Finding]] = []
        self.times: list[float] = []
        self.notes: list[str] = []
        self.statuses: Sequence[Status] = ()

    def found(self, run: str, finding: Finding) -> None:
        self.times.append(time.perf_counter())
        self.findings.append((run, finding))

    def note(self, sentence: str) -> None:
        self.notes.append(sentence)

    def progress(self, statuses: Sequence[Status]) -> None:
        self.statuses = statuses

    @property
    def steps(self) -> list[int]:
        return [finding.step for _, finding in self.findings]


def until(condition: Callable[[], Any], seconds: float = 20.0) -> None:
    """Wait for something that is about to be."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.005)


@contextmanager
def watched(*runs: Path | str, rules: Sequence[Rule] = RULES, **options: Any) -> Iterator[tuple[Seen, list[Outcome]]]:
    """Follow runs beside what the block does, and wait for the end of them."""
    seen, outcome = Seen(), list[Outcome]()

    def work() -> None:
        outcome.append(watch([str(run) for run in runs], Options(rules, **options), seen))

    thread = threading.Thread(target=work)
    thread.start()
    yield seen, outcome
    thread.join(30.0)
    assert not thread.is_alive()


def once(*runs: Path | str, rules: Sequence[Rule] = RULES, **options: Any) -> tuple[Seen, Outcome]:
    """Judge what is there."""
    seen = Seen()
    return seen, watch([str(run) for run in runs], Options(rules, once=True, **options), seen)


def lines(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "findings.jsonl").read_text("utf-8").splitlines()]


def counting(told: list[Finding]) -> Callable[[], list[actions.Action]]:
    return lambda: [actions.call(told.append, severity="info", repeated=True)]


def segments(path: Path, count: int) -> list[Path]:
    """A run of so many segments of a step each, and one of its end; x is too large from step 2 on."""
    with Monitor(path, every=1, collections=["custom"], flush_seconds=60.0) as monitor:
        for step in range(count):
            monitor.record("x", np.full(4, 11.0 if step >= 2 else 1.0, np.float32))
            monitor.step()
            monitor.flush()
    return sorted((path / "rank-00000").iterdir())


def copy_begun(run: Path, target: Path) -> None:
    """What is there of a run that is being copied, before its first segment."""
    (target / "rank-00000").mkdir(parents=True)
    shutil.copy(run / "run.json", target)
