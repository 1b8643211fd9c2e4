"""A run as text: what was recorded, and one series."""

from collections import Counter
from collections.abc import Sequence
from typing import TextIO

from tensometer.checkpoint import counted, printable
from tensometer.report.layout import aligned
from tensometer.report.sparkline import trend
from tensometer.report.table import write_text
from tensometer.store import Run

# Kinds of events that every run has, or that say where something is.
_QUIET = ("end", "raw")
SHOWN = ("mean", "std", "min", "max", "l2", "zeros", "nonfinite")


def write_run(run: Run, stream: TextIO, *, collection: str | None = None, regex: str | None = None) -> None:
    """A row for each tensor: how often it was recorded, and how its norm went.

    ValueError if there is none, or the collection is unknown.
    """
    headings = ("collection", "name", "dtype", "shape", "rows", "first", "last", "l2", "l2 over steps")
    rows = []
    try:
        keys = run.tensors(collection, regex)
    except KeyError as error:
        raise ValueError(f"{run.url}: {error.args[0]}") from error
    for key in dict.fromkeys((key.name, key.collection) for key in keys):
        series = run.series(key[0], collection=key[1])
        norms = series["l2"]
        shape = "x".join(map(str, series.key.shape)) or "scalar"
        numbers = (str(len(series)), str(series.steps[0]), str(series.steps[-1]), f"{norms[-1]:.4g}")
        texts = map(printable, (key[1], key[0], series.key.dtype, shape))
        rows.append((*texts, *numbers, trend(norms)))
    if not rows:
        raise ValueError(f"{run.url}: nothing was recorded" + (" that was asked for" if collection or regex else ""))
    lines = [*aligned(headings, rows, ("rows", "first", "last", "l2"))]
    steps = run.steps()
    lines.append(
        f"{len(rows)} series, {counted(len(steps), 'step')} from {steps[0]} to {steps[-1]}, ranks {len(run.ranks)}"
    )
    kinds = Counter(event.kind for event in run.events() if event.kind not in _QUIET)
    if kinds:
        lines.append(f"events: {', '.join(f'{count} {printable(kind)}' for kind, count in kinds.items())}")
    write_text(stream, "\n".join(lines) + "\n")


def write_series(
    run: Run,
    name: str,
    stream: TextIO,
    *,
    collection: str | None = None,
    phase: str | None = None,
    rank: int | None = None,
    statistics: Sequence[str] = SHOWN,
    last: int = 20,
) -> None:
    """The last rows of one tensor. ValueError for a name or statistic that is unknown."""
    try:
        series = run.series(name, collection=collection, phase=phase, rank=rank)
    except KeyError as error:
        raise ValueError(f"{run.url}: {error.args[0]}") from error
    columns = [series[statistic] for statistic in statistics]
    first = max(0, len(series) - last)
    rows = [
        (str(series.steps[row]), printable(series.phases[row]), *(f"{column[row]:.6g}" for column in columns))
        for row in range(first, len(series))
    ]
    headings = ("step", "phase", *statistics)
    lines = [*aligned(headings, rows, ("step", *statistics)), ""]
    width = max(map(len, statistics))
    for statistic, column in zip(statistics, columns, strict=True):
        lines.append(f"{statistic.ljust(width)}  {trend(column.astype(float))}")
    kind = f"{printable(series.key.dtype)} {list(series.key.shape)}"
    lines.append(f"{printable(name)}: {len(rows)} of {counted(len(series), 'row')}, {kind}")
    write_text(stream, "\n".join(lines) + "\n")
