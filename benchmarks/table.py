"""The table that decides: one row a promise, with its target and what was measured."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from benchmarks.harness import Measured, Ratio

Results: TypeAlias = Mapping[str, Measured]


@dataclass(frozen=True)
class Goal:
    """A number to reach: at least `target`, or at most it where `below`. `measure` raises KeyError when the case, or
    the instruction set, was not run here."""

    target: float
    unit: str
    measure: Callable[[Results], Ratio]
    below: bool = False

    def met(self, measured: Ratio) -> bool:
        return measured.median <= self.target if self.below else measured.median >= self.target


@dataclass(frozen=True)
class Row:
    text: str
    goals: tuple[Goal, ...]


def faster(case: str, side: str, over: str, target: float, unit: str = "x") -> Goal:
    return Goal(target, unit, lambda results: results[case].speedup(side, over))


def of_bandwidth(case: str, side: str, target: float) -> Goal:
    """The part of the read bandwidth that a side reaches: the fastest plain read's time over its own."""
    return Goal(target, "", lambda results: results[case].speedup(side, results[case].fastest("read: ")))


def microseconds(case: str, side: str, target: float) -> Goal:
    return Goal(target, "us", lambda results: results[case].time(side, 1e6), below=True)


def step_time(side: str, target: float, threads: int) -> tuple[Goal, ...]:
    """How many times a training step under a monitor is a step without one, of three networks."""
    cases = [f"training: {name}, {threads} thread{'s' * (threads > 1)}" for name in ("MLP", "CNN", "transformer")]
    return tuple(replace(faster(case, "no monitor", side, target), below=True) for case in cases)


def figure(case: str, what: str, target: float, unit: str) -> Goal:
    return Goal(target, unit, lambda results: results[case].time(what), below=True)


def _not_captured(results: Results) -> Ratio:
    """The monitor's share of a step that it does not capture, in percent."""
    share = results["a step that is not captured"].speedup("training step", "monitor")
    return Ratio(100 * share.median, 100 * share.low, 100 * share.high)


def _beyond_the_reduction(results: Results) -> Ratio:
    """Microseconds that each of 1000 tensors costs over its share of one large tensor with the same elements."""
    case = results["1000 small arrays"]
    one = case.median("one summarize of the same elements")
    many = case.time("summarize_many")
    return Ratio(*((seconds - one) / 1000 * 1e6 for seconds in (many.median, many.low, many.high)))


def _fastest_numpy(results: Results) -> Ratio:
    case = results["scan of a model"]
    return case.speedup("scan", case.fastest("NumPy: "))


ROWS = (
    Row(
        "full summary without histogram, against read bandwidth of one core",
        (of_bandwidth("summary", "summarize", 0.80),),
    ),
    Row(
        "bfloat16 / float16, in elements per second against float32",
        (faster("16-bit dtypes", "bfloat16", "float32", 0.9), faster("16-bit dtypes", "float16", "float32", 0.6)),
    ),
    Row("against the NumPy nine", (faster("summary", "summarize", "NumPy nine", 15),)),
    Row(
        "with the logarithmic histogram, against NumPy nine + np.histogram",
        (faster("summary with histogram", "summarize with histogram", "NumPy nine + np.histogram", 12),),
    ),
    Row(
        "against torch's best composition, 1 thread / all threads",
        (
            faster("torch, 1 thread", "summarize", "torch, best composition", 30),
            faster("torch, all threads", "summarize", "torch, best composition", 30),
        ),
    ),
    Row("AVX2 forced, against read bandwidth of one core", (of_bandwidth("forced instruction sets", "avx2", 0.80),)),
    Row(
        "x86-64 baseline forced, against read bandwidth of one core",
        (of_bandwidth("forced instruction sets", "baseline", 0.45),),
    ),
    Row(
        "two threads with histogram, against one",
        (faster("two threads", "with histogram, 2 threads", "with histogram, 1 thread", 1.7),),
    ),
    Row(
        "summarize of a 1000-element array, whole Python call: against the NumPy nine / time",
        (
            faster("one small array", "summarize", "NumPy nine", 8),
            microseconds("one small array", "summarize", 4),
        ),
    ),
    Row(
        "summarize_many of 1000 such arrays, a tensor beyond the reduction itself",
        (Goal(1, "us", _beyond_the_reduction, below=True),),
    ),
    Row(
        "uniform histogram, 64 bins, against np.histogram",
        (faster("uniform histogram", "histogram", "np.histogram", 8),),
    ),
    Row(
        "scan of the real model, against NumPy reading it and the nine per tensor (the faster of file and memory map)",
        (Goal(10, "x", _fastest_numpy),),
    ),
    *(
        Row(
            f"training step on {threads} thread{'s' * (threads > 1)}, {what}, every step, against no monitor: "
            "MLP / CNN / transformer",
            step_time(side, target, threads),
        )
        for side, what, target in (
            ("default", "everything default", 1.05),
            ("everything", "with activations, updates and all histograms", 1.15),
            ("rules", "judged by the default rules, which capture what they need (no target)", math.inf),
            ("NumPy by hand", "five NumPy reductions by hand (a peer, no target)", math.inf),
        )
        for threads in (1, 2)
    ),
    Row("what a monitor adds to a step that is not captured (MLP)", (Goal(0.5, "%", _not_captured, below=True),)),
    Row(
        "bytes on disk for one tensor and step: scalars / with histogram",
        (figure("stored bytes", "bytes, scalars", 60, "B"), figure("stored bytes", "bytes, with histogram", 250, "B")),
    ),
    Row("handing 1000 summaries to the writer", (microseconds("hand over 1000 summaries", "submit", 1000),)),
    Row(
        "reading 1,000,000 summaries into arrays",
        (Goal(1, "s", lambda results: results["read 1,000,000 summaries"].time("open_run and table"), below=True),),
    ),
    Row(
        "default rules over 1,000,000 stored summaries, one core",
        (Goal(1, "s", lambda results: results["rules over 1,000,000 summaries"].time("default rules"), below=True),),
    ),
    Row(
        "default rules beside a training step, model of 1000 tensors",
        (microseconds("rules beside a step of 1000 tensors", "rules beside a step", 5000),),
    ),
    Row("memory of a monitor above the training's", (figure("memory of a monitor", "MB above", 32, "MB"),)),
)


def number(value: float) -> str:
    if 0 < abs(value) < 0.1:
        return f"{value:.2g}"
    return f"{value:.2f}" if abs(value) < 10 else f"{value:.1f}" if abs(value) < 100 else f"{value:.0f}"


def _shown(goal: Goal, results: Results) -> tuple[str, str, str]:
    wanted = f"{'at most ' if goal.below else ''}{number(goal.target)} {goal.unit}".strip()
    if goal.target == math.inf:
        wanted = "-"
    try:
        measured = goal.measure(results)
    except KeyError:
        return wanted, "not run here", "-"
    got = f"{number(measured.median)} {goal.unit}".strip() + f" ({number(measured.low)} to {number(measured.high)})"
    if goal.target == math.inf:
        return wanted, got, "-"
    return wanted, got, "pass" if goal.met(measured) else "MISS"


def decisive_rows(results: Results) -> list[dict[str, str]]:
    rows = []
    for row in ROWS:
        targets, measured, verdicts = zip(*(_shown(goal, results) for goal in row.goals), strict=True)
        verdict = "MISS" if "MISS" in verdicts else "-" if "-" in verdicts else "pass"
        rows.append(
            {"case": row.text, "at least": " / ".join(targets), "measured": " / ".join(measured), "result": verdict}
        )
    return rows


def every_side(results: Results) -> list[dict[str, str]]:
    return [
        {
            "case": case.name,
            "side": side,
            "time": duration(case.median(side)),
            "GB/s": number(case.nbytes / case.median(side) / 1e9),
            "G elements/s": number(case.elements / case.median(side) / 1e9),
        }
        for case in results.values()
        for side in case.seconds
        if case.elements
    ]


def duration(seconds: float) -> str:
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if seconds >= size:
            return f"{number(seconds / size)} {unit}"
    return f"{number(seconds * 1e9)} ns"


def markdown(rows: list[dict[str, str]]) -> str:
    columns = list(rows[0])
    lines = [columns, ["---"] * len(columns), *([row[column] for column in columns] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def report(results: Results, machine: Mapping[str, Any]) -> str:
    """The table that decides, what it was taken on, and under it every time that it comes from."""
    described = ", ".join(f"{key} {value}" for key, value in machine.items())
    return "\n\n".join(
        [
            markdown(decisive_rows(results)),
            f"Median over the rounds (quartiles). Taken on: {described}.",
            "Every side of every case, median time of a call:",
            markdown(every_side(results)),
        ]
    )
