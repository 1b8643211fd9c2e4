"""A scan's report for people and for programs."""

from tensometer.report.formats import FORMATS, SORT_KEYS, sort_entries, write_report

__all__ = ["FORMATS", "SORT_KEYS", "sort_entries", "write_report"]
