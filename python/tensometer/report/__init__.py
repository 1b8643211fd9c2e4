"""A scan's report for people and for programs."""

from tensometer.report.formats import FORMATS, SORT_KEYS, sort_entries, write_report
from tensometer.report.run_table import SHOWN, write_run, write_series

__all__ = ["FORMATS", "SHOWN", "SORT_KEYS", "sort_entries", "write_report", "write_run", "write_series"]
