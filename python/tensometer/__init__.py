"""tensometer: every tensor of a model reduced to a small, exact summary in one pass."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

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
from tensometer.scanner import scan

if TYPE_CHECKING:
    from tensometer.monitor import Monitor
    from tensometer.store import Run, Series, open_run

# What belongs to training runs is imported when it is first used: `import tensometer` stays fast for those who reduce.
_WHERE = {
    "Monitor": "tensometer.monitor",
    "Run": "tensometer.store",
    "Series": "tensometer.store",
    "open_run": "tensometer.store",
}

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


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_WHERE[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
