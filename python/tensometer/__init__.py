"""tensometer: every tensor of a model reduced to a small, exact summary in one pass."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
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
    from tensometer.capture.config import CollectionConfig, MonitorConfig
    from tensometer.monitor import Monitor
    from tensometer.scanner import scan
    from tensometer.store import Run, Series, open_run

# Everything is imported when it is first used: the command line answers Ctrl-C while NumPy and the core are loaded, and
# what belongs to training runs costs nothing to those who reduce.
_WHERE = {
    "CollectionConfig": "tensometer.capture.config",
    "Monitor": "tensometer.monitor",
    "MonitorConfig": "tensometer.capture.config",
    "Run": "tensometer.store",
    "Series": "tensometer.store",
    "open_run": "tensometer.store",
    "scan": "tensometer.scanner",
}

__all__ = [
    "Accumulator",
    "CollectionConfig",
    "Comparison",
    "Histogram",
    "LogHistogram",
    "Monitor",
    "MonitorConfig",
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
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_WHERE.get(name, "tensometer._core")), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
