"""Follows runs while they are written: rules, findings in a file, actions, a view."""

from tensometer.watch.findings_file import FindingsFile
from tensometer.watch.followed import Followed, Status
from tensometer.watch.views import LiveView, PlainView, View, counted_severities, view_of
from tensometer.watch.watching import Options, Outcome, watch

__all__ = [
    "FindingsFile",
    "Followed",
    "LiveView",
    "Options",
    "Outcome",
    "PlainView",
    "Status",
    "View",
    "counted_severities",
    "view_of",
    "watch",
]
