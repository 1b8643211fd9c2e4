"""tensometer: every tensor of a model reduced to a small, exact summary in one pass."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tensometer import actions, cuda, rules
    from tensometer._core import (
        Accumulator,
        Comparison,
        Histogram,
        LogHistogram,
        Pending,
        Summary,
        SummaryTable,
        __version__,
        compare,
        dtypes,
        histogram,
        isa,
        isas,
        summarize,
        summarize_async,
        summarize_many,
        summarize_units,
    )
    from tensometer.actions import StopTraining
    from tensometer.capture.config import CollectionConfig, MonitorConfig
    from tensometer.monitor import Monitor
    from tensometer.rules import Finding, Rule
    from tensometer.scanner import scan
    from tensometer.store import Run, Series, open_run

# Everything is imported when it is first used: the command line answers Ctrl-C while NumPy and the core are loaded, and
# what belongs to training runs costs nothing to those who reduce.
_MODULES = ("actions", "cuda", "rules")
_WHERE = {
    "CollectionConfig": "tensometer.capture.config",
    "Finding": "tensometer.rules",
    "Monitor": "tensometer.monitor",
    "MonitorConfig": "tensometer.capture.config",
    "Rule": "tensometer.rules",
    "Run": "tensometer.store",
    "Series": "tensometer.store",
    "StopTraining": "tensometer.actions",
    "open_run": "tensometer.store",
    "scan": "tensometer.scanner",
}

__all__ = [
    "Accumulator",
    "CollectionConfig",
    "Comparison",
    "Finding",
    "Histogram",
    "LogHistogram",
    "Monitor",
    "MonitorConfig",
    "Pending",
    "Rule",
    "Run",
    "Series",
    "StopTraining",
    "Summary",
    "SummaryTable",
    "__version__",
    "actions",
    "compare",
    "cuda",
    "dtypes",
    "histogram",
    "isa",
    "isas",
    "open_run",
    "rules",
    "scan",
    "summarize",
    "summarize_async",
    "summarize_many",
    "summarize_units",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name in _MODULES:
        return import_module(f"tensometer.{name}")
    value = getattr(import_module(_WHERE.get(name, "tensometer._core")), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
