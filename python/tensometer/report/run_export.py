"""A run's rows for other programs: Parquet, CSV or lines of JSON, a segment at a time."""

import csv
import json
import math
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TextIO

from tensometer.extras import require
from tensometer.store import Table, stored_tables


def export_run(
    url: str | os.PathLike[str],
    form: str,
    stream: TextIO,
    *,
    collection: str | None = None,
    regex: str | None = None,
    phase: str | None = None,
    rank: int | None = None,
    statistics: Sequence[str] | None = None,
) -> None:
    """Write the rows in a form of EXPORTS. Memory is bounded by the largest segment, whatever the run's length.

    Columns are those of Table. What is not finite is null in JSON. ValueError for what was not recorded.
    """
    tables = stored_tables(url, collection=collection, regex=regex, phase=phase, rank=rank, statistics=statistics)
    first = next(tables, None)
    if first is None:
        raise ValueError(f"{os.fspath(url)}: nothing was recorded that was asked for")
    EXPORTS[form](_chained(first, tables), stream)
    stream.flush()


def _chained(first: Table, rest: Iterator[Table]) -> Iterator[Table]:
    yield first
    yield from rest


def _write_parquet(tables: Iterator[Table], stream: TextIO) -> None:
    require("pyarrow", extra="parquet", purpose="the parquet format")
    parquet: Any = require("pyarrow.parquet", extra="parquet", purpose="the parquet format")
    if stream.isatty():
        raise ValueError("parquet is a binary format: write it to a file with --output or into a pipe")
    writer = None
    for table in tables:
        batch = table.to_arrow()
        writer = writer or parquet.ParquetWriter(stream.buffer, batch.schema, compression="zstd")
        writer.write_table(batch)
    assert writer is not None
    writer.close()


def _write_csv(tables: Iterator[Table], stream: TextIO) -> None:
    writer = csv.writer(stream, lineterminator="\n")
    for number, table in enumerate(tables):
        if number == 0:
            writer.writerow(table.columns)
        writer.writerows(_rows(table))


def _write_jsonl(tables: Iterator[Table], stream: TextIO) -> None:
    for table in tables:
        names = table.columns
        for row in _rows(table):
            values = {
                name: None if isinstance(value, float) and not math.isfinite(value) else value
                for name, value in zip(names, row, strict=True)
            }
            stream.write(json.dumps(values, allow_nan=False) + "\n")


def _rows(table: Table) -> Iterator[tuple[Any, ...]]:
    return zip(*(table[column].tolist() for column in table.columns), strict=True)


EXPORTS: dict[str, Callable[[Iterator[Table], TextIO], None]] = {
    "parquet": _write_parquet,
    "csv": _write_csv,
    "jsonl": _write_jsonl,
}
