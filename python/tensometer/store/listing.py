"""What a run holds, segment by segment: the rows in them that are asked for."""

import json
import os
import re
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tensometer.store.layout import RUN_FILE, segment_paths
from tensometer.store.place import Place, open_place
from tensometer.store.segment import Column, SegmentError, TensorKey, decode_segment
from tensometer.store.table import Rows, Table, table_of


def stored_tables(
    url: str | os.PathLike[str],
    *,
    collection: str | None = None,
    regex: str | None = None,
    phase: str | None = None,
    rank: int | None = None,
    statistics: Sequence[str] | None = None,
) -> Iterator[Table]:
    """The tables of a run's segments one after another, without those that are empty: for runs larger than memory.

    FileNotFoundError where there is no run. Damaged segments are skipped with a RuntimeWarning.
    """
    place = open_place(url)
    about_of(place)
    pattern = pattern_of(regex)
    for path, writer in segment_paths(place):
        if rank not in (None, writer):
            continue
        try:
            segment = decode_segment(place.read(path), path)
        except (SegmentError, OSError) as error:
            warnings.warn(f"tensometer: {error}; it is skipped", RuntimeWarning, stacklevel=3)
            continue
        wanted = [asked_for(key, collection, pattern) for key in segment.tensors]
        kept = np.array(wanted, np.bool_)[segment.columns["tensor"]] if segment.rows else np.zeros(0, np.bool_)
        if phase is not None:
            kept &= in_phase(segment.columns["phase"], segment.phases.index(phase) if phase in segment.phases else -1)
        if kept.any():
            columns = {name: column[kept] for name, column in segment.columns.items()}
            yield table_of([Rows(writer, columns, segment.tensors, segment.phases)], statistics)


def about_of(place: Place) -> dict[str, Any]:
    """What run.json says. FileNotFoundError where there is no run, ValueError for what is no JSON."""
    try:
        return dict(json.loads(place.read(RUN_FILE)))
    except FileNotFoundError:
        raise FileNotFoundError(f"{place.url}: there is no run here (no {RUN_FILE})") from None
    except (ValueError, TypeError) as error:
        raise ValueError(f"{place.url}: {RUN_FILE} is not valid JSON: {error}") from error


def pattern_of(regex: str | None) -> re.Pattern[str] | None:
    """The expression compiled; ValueError for what is none."""
    try:
        return None if regex is None else re.compile(regex)
    except re.error as error:
        raise ValueError(f"regex: {regex!r} is not a regular expression: {error}") from None


def asked_for(key: TensorKey, collection: str | None, pattern: re.Pattern[str] | None) -> bool:
    """Whether a tensor is of the collection, and its name one that the expression finds itself in."""
    return collection in (None, key.collection) and (pattern is None or pattern.search(key.name) is not None)


def in_phase(phases: Column, phase: int | None) -> npt.NDArray[np.bool_]:
    """Rows of the phase of that number; all for None."""
    if phase is None:
        return np.ones(len(phases), np.bool_)
    return np.asarray(phases.astype(np.int64) == phase)
