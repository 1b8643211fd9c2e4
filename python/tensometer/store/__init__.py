"""Runs on disk or in an object store: segments of summaries, written once, read at any time."""

from tensometer.store.listing import stored_tables
from tensometer.store.place import Place, open_place
from tensometer.store.reader import Run, open_run
from tensometer.store.segment import Event, Record, Segment, SegmentError, TensorKey, decode_segment, encode_segment
from tensometer.store.series import Series
from tensometer.store.table import Table
from tensometer.store.writer import RunWriter

__all__ = [
    "Event",
    "Place",
    "Record",
    "Run",
    "RunWriter",
    "Segment",
    "SegmentError",
    "Series",
    "Table",
    "TensorKey",
    "decode_segment",
    "encode_segment",
    "open_place",
    "open_run",
    "stored_tables",
]
