"""Runs the programs, and keeps their runs."""

import hashlib
import importlib
import json
import shutil
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tensometer import capture
from tensometer.capture.config import MonitorConfig
from tensometer.rules import default

from benchmarks.detection.case import REFERENCE, Case, Trial

HERE = Path(__file__).parent
RUNS = HERE.parents[1] / "build" / "detection"
_MARK = "recorded.json"
# A monitor as a user makes it who wants to have every step judged: it captures what the default rules need.
_SETTINGS: dict[str, Any] = {"config": MonitorConfig(every=1, threads=1), "rules": True}
# What the programs of every file depend on.
_SHARED = ("case", "data", "loop", "models", "record")
# What decides which rows a run has.
_CAPTURE = sorted(Path(capture.__file__).parent.glob("*.py"))


@dataclass(frozen=True)
class Recorded:
    """A run that is kept: where, and from which step on a fault is in it."""

    case: Case
    seed: int
    broken: bool
    place: Path
    onset: int

    @property
    def reference(self) -> Path:
        """Where the run that it repeats lies, if it does."""
        return self.place.parent / REFERENCE

    @property
    def label(self) -> str:
        """How a person calls it."""
        kind = "healthy" if self.case.healthy else "fault" if self.broken else "twin"
        return f"{self.case.name} ({kind}, seed {self.seed})"


def trials(cases: Sequence[Case], seeds: Sequence[int]) -> list[tuple[Case, int, bool]]:
    """Everything there is to run: of faults, the twin too."""
    return [(case, seed, broken) for seed in seeds for case in cases for broken in _versions(case)]


def recorded(case: Case, seed: int, broken: bool, *, runs: Path = RUNS, fresh: bool = False) -> Recorded:
    """The run of a program: the one that is kept, if neither the program nor capture has changed since.

    fresh: run it in any case.
    """
    folder = _folder(case, seed, broken, runs)
    digest = _digest(case)
    if fresh or _mark(folder).get("digest") != digest:
        shutil.rmtree(folder, ignore_errors=True)
        trial = Trial(case.name, seed, broken, folder / "run", _SETTINGS)
        _run(case, trial)
        onset = case.onset if trial.onset is None else trial.onset
        (folder / _MARK).write_text(json.dumps({"digest": digest, "onset": onset}) + "\n")
    return Recorded(case, seed, broken, folder / "run", _mark(folder)["onset"])


def kept(case: Case, seed: int, broken: bool, *, runs: Path = RUNS) -> Recorded | None:
    """The run of a program as it was when it was recorded last."""
    folder = _folder(case, seed, broken, runs)
    mark = _mark(folder)
    return Recorded(case, seed, broken, folder / "run", mark["onset"]) if mark else None


def _folder(case: Case, seed: int, broken: bool, runs: Path) -> Path:
    version = "healthy" if case.healthy else "fault" if broken else "twin"
    return runs / f"seed-{seed}" / f"{case.name}-{version}"


def _mark(folder: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads((folder / _MARK).read_text())
    except FileNotFoundError:
        return {}
    return found


def _versions(case: Case) -> tuple[bool, ...]:
    return (False,) if case.healthy else (True, False)


def _run(case: Case, trial: Trial) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(trial.seed)
    try:
        with warnings.catch_warnings():
            # Of faults that PyTorch or scikit-learn see themselves.
            warnings.simplefilter("ignore")
            case.program(trial)
    finally:
        torch.set_num_threads(threads)


def _digest(case: Case) -> str:
    module = importlib.import_module(case.program.__module__)
    sources = [Path(str(module.__file__)), *(HERE / f"{name}.py" for name in _SHARED), *_CAPTURE]
    text = "".join(source.read_text(encoding="utf-8") for source in sources)
    needs = [f"{rule.name} {rule.needs} {rule.wants}" for rule in default()]
    return hashlib.sha256(f"{text}{needs}".encode()).hexdigest()
