"""Reports of scans and of runs, for people and for programs."""

from tensometer.report.formats import FORMATS, SORT_KEYS, sort_entries, write_report
from tensometer.report.run_export import EXPORTS, export_run
from tensometer.report.run_table import SHOWN, write_run, write_series

__all__ = [
    "EXPORTS",
    "FORMATS",
    "SHOWN",
    "SORT_KEYS",
    "export_run",
    "sort_entries",
    "write_report",
    "write_run",
    "write_series",
]
