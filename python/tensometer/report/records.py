"""A scanned tensor as one flat record: the columns of every machine-readable format."""

import math
from typing import Any

from tensometer.checkpoint import printable
from tensometer.flags import Flag
from tensometer.scan_report import CHANGES, STATISTICS, Change, ScanEntry, ScanReport, Statistics

Record = dict[str, Any]

COLUMNS = ("name", "file", "dtype", "shape", "nbytes", *STATISTICS, "sparkline", "flags")


def record(entry: ScanEntry, *, compared: bool) -> Record:
    """Values by column; None for what does not exist (a NaN minimum, the statistics of a skipped tensor)."""
    values: Record = {
        "name": entry.name,
        "file": printable(entry.path),
        "dtype": entry.dtype,
        "shape": list(entry.shape),
        "nbytes": entry.nbytes,
        **_values(entry.statistics, STATISTICS),
        "sparkline": entry.sparkline,
        "flags": [flag_record(flag) for flag in entry.flags],
    }
    if compared:
        values.update(_values(entry.change, CHANGES))
    return values


def flag_record(flag: Flag) -> Record:
    """A flag as it appears in JSON."""
    return {"name": flag.name, "severity": flag.severity.label, "sentence": flag.sentence}


def totals_record(report: ScanReport) -> Record:
    """What follows the tensors in JSON."""
    totals = report.totals
    return {
        "tensors": totals.tensors,
        "skipped": totals.skipped,
        "elements": totals.elements,
        "nbytes": totals.nbytes,
        "seconds": totals.seconds,
        "worst": None if report.worst is None else report.worst.label,
    }


def _values(source: Statistics | Change | None, names: tuple[str, ...]) -> Record:
    return {name: None if source is None else _finite(getattr(source, name)) for name in names}


def _finite(value: float | int) -> float | int | None:
    """JSON has no NaN or Infinity."""
    return value if isinstance(value, int) or math.isfinite(value) else None
