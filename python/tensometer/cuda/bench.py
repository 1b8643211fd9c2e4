"""`python -m tensometer.cuda --bench`: tables of what was measured on this device, every answer checked first."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from tensometer import _core
from tensometer.cuda import bench_training
from tensometer.cuda.bench_cases import COPY, SUBMIT, Data, large_cases, latency_cases, many_case, model_tensors
from tensometer.cuda.bench_timing import Case, CudaTimer, Measured, Spread, Timer, WrongAnswerError, measure
from tensometer.cuda.bench_training import NONE, Scale
from tensometer.cuda.devices import describe
from tensometer.cuda.terminal import progress

__all__ = ["Results", "Sizes", "WrongAnswerError", "as_json", "markdown", "run"]


@dataclass(frozen=True)
class Sizes:
    """How much is measured: bytes of the large tensors, tensors of the model, rounds of each table."""

    nbytes: int = 1 << 28
    tensors: int = 1000
    rounds: int = 25
    latency_rounds: int = 200
    training_rounds: int = 7
    steps: int = 10
    scale: Scale = field(default_factory=Scale)


@dataclass(frozen=True)
class Results:
    """What was measured, table by table, and where."""

    device: str
    seed: int
    large: list[Measured]
    many: list[Measured]
    latency: list[Measured]
    training: list[Measured]


def run(device: Any, seed: int = 0, sizes: Sizes | None = None, timer: Timer | None = None) -> Results:
    """Measures everything on torch's device. WrongAnswerError before anything is timed that is wrong."""
    sizes = sizes or Sizes()
    timer = timer or CudaTimer(device)
    data = Data(device, seed)
    try:
        large = _measured(large_cases(data, sizes.nbytes), timer, sizes.rounds)
        models = [model_tensors(data, sizes.tensors, dtype) for dtype in ("float32", "bfloat16")]
        many = _measured((many_case(tensors) for tensors in models), timer, sizes.rounds)
        latency = _measured(latency_cases(models[0]), timer, sizes.latency_rounds)
        training = []
        for name in bench_training.NETWORKS:
            progress(f"training step: {name}")
            training.append(bench_training.measure(name, device, sizes.scale, sizes.training_rounds, sizes.steps))
    finally:
        progress("")
    return Results(describe(device), seed, large, many, latency, training)


def _measured(cases: Iterator[Case], timer: Timer, rounds: int) -> list[Measured]:
    found = []
    for case in cases:
        progress(case.name)
        found.append(measure(case, timer, rounds))
    return found


def markdown(results: Results) -> str:
    """Tables for a README."""
    return "\n\n".join(
        [
            f"Measured on {results.device}, tensometer {_core.__version__}, by `python -m tensometer.cuda --bench`: "
            "medians (quartiles) of interleaved rounds, every answer checked first.",
            "One large tensor. GB/s: its bytes over the device's time; of the copy's: against the bytes that a copy of "
            "it from device memory to device memory reads and writes in its time.",
            _table(_large_rows(results.large)),
            "The tensors of a model. Device: from when it can begin until it is done; host: until the call returns.",
            _table([row for case in results.many for row in _many_rows(case)]),
            "What the host waits for on an idle device.",
            _table([row for case in results.latency for row in _latency_rows(case)]),
            "A training step, and what captures it: wall clock, the wait for the device included. Summaries are "
            "dropped where a device is eight steps behind; then the time is not that of all of them.",
            _table([row for case in results.training for row in _training_rows(case)]),
        ]
    )


def as_json(results: Results) -> str:
    """Every time that was taken, in seconds."""
    return json.dumps({"tensometer": _core.__version__, **dataclasses.asdict(results)}, indent=1) + "\n"


def _large_rows(measured: list[Measured]) -> Iterator[dict[str, str]]:
    for case in measured:
        copied = case.ratio(COPY, SUBMIT)
        yield {
            "what": case.name,
            "ms": _shown(case.device(SUBMIT), 1e3),
            "GB/s": _number(case.nbytes / case.device(SUBMIT).median / 1e9),
            "the copy's GB/s": _number(2 * case.nbytes / case.device(COPY).median / 1e9),
            "of the copy's, %": _shown(copied, 50),
        }


def _many_rows(case: Measured) -> Iterator[dict[str, str]]:
    for side in case.times:
        yield {
            "what": case.name,
            "by": side,
            "device, ms": _shown(case.device(side), 1e3),
            "host, ms": _shown(case.host(side), 1e3),
            "device, against one submit": _shown(case.ratio(side, SUBMIT), 1),
        }


def _latency_rows(case: Measured) -> Iterator[dict[str, str]]:
    for side in case.times:
        yield {"what": case.name, "until": side, "us": _shown(case.host(side), 1e6)}


def _training_rows(case: Measured) -> Iterator[dict[str, str]]:
    for side in case.times:
        yield {
            "network": case.name,
            "captured by": side,
            "ms a step": _shown(case.device(side), 1e3),
            "against nothing": _shown(case.ratio(side, NONE), 1),
            "summaries dropped": str(case.dropped[side]),
        }


def _table(rows: Any) -> str:
    rows = list(rows)
    columns = list(rows[0])
    lines = [columns, ["---"] * len(columns), *([row[column] for column in columns] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _shown(values: Spread, factor: float) -> str:
    median, low, high = (_number(value * factor) for value in (values.median, values.low, values.high))
    return f"{median} ({low} to {high})"


def _number(value: float) -> str:
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"
