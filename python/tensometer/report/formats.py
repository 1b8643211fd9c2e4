"""The output formats of a scan, by name."""

import csv
import io
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from operator import itemgetter
from typing import Any, TextIO

from tensometer.checkpoint import printable
from tensometer.extras import require
from tensometer.report.records import COLUMNS, Record, flag_record, record, totals_record
from tensometer.report.table import write_table, write_text
from tensometer.scan_report import CHANGES, STATISTICS, ScanEntry, ScanReport

SORT_KEYS = ("name", "dtype", "nbytes", *STATISTICS, "nonfinite", "flags", *CHANGES)

_TEXTS = ("name", "file", "dtype", "shape", "sparkline", "flags")
_INTEGERS = ("nbytes", "count", "zeros", "negatives", "nan", "posinf", "neginf", "changed", "nonfinite_changes")


def write_report(report: ScanReport, name: str, stream: TextIO) -> None:
    """The report in the format of that name; binary formats go to the buffer under the text stream."""
    FORMATS[name](report, stream)
    stream.flush()


def sort_entries(report: ScanReport, key: str, *, reverse: bool) -> ScanReport:
    """Numbers largest first, text from A to Z, tensors without the value last; `reverse` turns the values round.

    "flags" sorts by the worst severity.
    """
    keyed = [(_sort_value(entry, key), entry) for entry in report.entries]
    known = [pair for pair in keyed if pair[0] is not None]
    known.sort(key=itemgetter(0), reverse=(key not in ("name", "dtype")) is not reverse)
    unknown = [entry for value, entry in keyed if value is None]
    return replace(report, entries=(*(entry for _, entry in known), *unknown))


def _sort_value(entry: ScanEntry, key: str) -> Any:
    """None where there is none, or it is NaN."""
    if key == "flags":
        return max((flag.severity for flag in entry.flags), default=0)
    if key in ("name", "dtype", "nbytes"):
        return getattr(entry, key)
    source = entry.change if key in CHANGES else entry.statistics
    value = None if source is None else getattr(source, key)
    return None if value != value else value  # NaN


def _write_json(report: ScanReport, stream: TextIO) -> None:
    # Written tensor by tensor: the text of a large checkpoint's report is larger than the report.
    stream.write('{"tensors": [')
    for number, line in enumerate(_json_lines(report)):
        stream.write((",\n" if number else "\n") + line)
    unpaired = [{"tensor": flag.tensor, **flag_record(flag)} for flag in report.unpaired]
    stream.write(f'\n], "unpaired": {json.dumps(unpaired)}, "totals": {json.dumps(totals_record(report))}}}\n')


def _write_jsonl(report: ScanReport, stream: TextIO) -> None:
    for line in _json_lines(report):
        stream.write(line + "\n")
    for flag in report.unpaired:
        stream.write(json.dumps({"name": flag.tensor, "flags": [flag_record(flag)]}) + "\n")


def _json_lines(report: ScanReport) -> Iterator[str]:
    for entry in report.entries:
        yield json.dumps(record(entry, compared=report.compared), allow_nan=False)


def _write_csv(report: ScanReport, stream: TextIO) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    columns = _columns(report)
    writer.writerow(columns)
    shown = printable if stream.isatty() else str
    for values in _flat_records(report):
        writer.writerow([shown(cell) if isinstance(cell := values[column], str) else cell for column in columns])
        write_text(stream, text.getvalue())
        text.seek(0)
        text.truncate()


def _write_parquet(report: ScanReport, stream: TextIO) -> None:
    pyarrow = require("pyarrow", extra="parquet", purpose="the parquet format")
    parquet = require("pyarrow.parquet", extra="parquet", purpose="the parquet format")
    if stream.isatty():
        raise ValueError("parquet is a binary format: write it to a file with --output or into a pipe")
    types = {**dict.fromkeys(_TEXTS, pyarrow.string()), **dict.fromkeys(_INTEGERS, pyarrow.int64())}
    records = list(_flat_records(report))
    arrays = {}
    for column in _columns(report):
        kind = types.get(column, pyarrow.float64())
        # The minimum of an integer tensor is an integer, of a floating-point tensor a float: one column, one type.
        convert = float if column not in types else (lambda value: value)
        values = [None if values[column] is None else convert(values[column]) for values in records]
        arrays[column] = pyarrow.array(values, kind)
    parquet.write_table(pyarrow.table(arrays), stream.buffer)


def _columns(report: ScanReport) -> tuple[str, ...]:
    return (*COLUMNS, *CHANGES) if report.compared else COLUMNS


def _flat_records(report: ScanReport) -> Iterator[Record]:
    """Records whose values are numbers and text: shapes like 384x1536, flags as their names."""
    for entry in report.entries:
        values = record(entry, compared=report.compared)
        values["shape"] = "x".join(map(str, entry.shape))
        values["flags"] = " ".join(dict.fromkeys(flag.name for flag in entry.flags))
        yield values
    for flag in report.unpaired:
        yield dict.fromkeys(_columns(report)) | {"name": flag.tensor, "flags": flag.name}


FORMATS: dict[str, Callable[[ScanReport, TextIO], None]] = {
    "table": write_table,
    "json": _write_json,
    "jsonl": _write_jsonl,
    "csv": _write_csv,
    "parquet": _write_parquet,
}
