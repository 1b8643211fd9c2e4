"""tensometer: every tensor of a model reduced to a small, exact summary in one pass."""

from tensometer._core import (
    Accumulator,
    Comparison,
    Histogram,
    LogHistogram,
    Summary,
    SummaryTable,
    __version__,
    compare,
    dtypes,
    histogram,
    isa,
    isas,
    summarize,
    summarize_many,
    summarize_units,
)
from tensometer.monitor import Monitor
from tensometer.scanner import scan
from tensometer.store import Run, Series, open_run

__all__ = [
    "Accumulator",
    "Comparison",
    "Histogram",
    "LogHistogram",
    "Monitor",
    "Run",
    "Series",
    "Summary",
    "SummaryTable",
    "__version__",
    "compare",
    "dtypes",
    "histogram",
    "isa",
    "isas",
    "open_run",
    "scan",
    "summarize",
    "summarize_many",
    "summarize_units",
]
