"""`tensometer.scan`: every tensor of a checkpoint summarised, judged and, if asked, compared, in bounded memory.

(The module is not called `scan`, for then importing it would replace the function of that name in the package.)
"""

import os
import re
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path

import numpy as np

from tensometer._core import Accumulator, Comparison, Summary, summarize_many, summarize_units
from tensometer._core import compare as compare_tensors
from tensometer.checkpoint import CheckpointError, Entry, RowsNotReadableError, as_tensor, read_checkpoint
from tensometer.checkpoint.entry import Bits, element_count
from tensometer.flags import (
    ADDED,
    MISSING,
    NOT_COMPARED,
    RESHAPED,
    RETYPED,
    SERVE_DTYPES,
    SKIPPED,
    Facts,
    Flag,
    Indices,
    Rows,
    is_matrix,
    judge,
    target_of,
)
from tensometer.report.sparkline import sparkline
from tensometer.scan_report import Change, ScanEntry, ScanReport, Statistics, Totals, change_of, statistics_of

# The pages that are resident at a time. A window takes about 0.5 ms on one core, against which waking the threads and
# the calls are small, and it is an eighth of the 64 MB that a scan may use.
WINDOW = 8 << 20
# A batch's summaries live together, each with its histogram: at 512 they stay below the size of a window.
BATCH_TENSORS = 512
# Eight bins an octave, the resolution that runs store: its 4096 bins stay in the L1 cache while they are counted.
RESOLUTION = 3
# The summaries of one piece of rows take about 2 MB.
ROWS_AT_ONCE = 4096
# Fingerprints and statistics of all rows are kept while a tensor is judged: at most 32 MB.
MAX_ROWS = 1 << 19
# Shorter rows are equal or constant by chance or by nature.
MIN_ROW = 8

Progress = Callable[[int, int], None]
PathLike = str | os.PathLike[str]


@dataclass(frozen=True, slots=True)
class _Options:
    units: bool
    serve_dtype: str
    threads: int | None


@dataclass(frozen=True, slots=True)
class _Step:
    """At most WINDOW bytes read, and the entries (with a summary unless skipped) that this finished."""

    nbytes: int
    finished: list[tuple[Entry, Summary | None]]


def scan(
    paths: PathLike | Iterable[PathLike],
    *,
    filter: str | re.Pattern[str] | None = None,
    units: bool = False,
    serve_dtype: str = "auto",
    compare: PathLike | None = None,
    threads: int | None = None,
    progress: Progress | None = None,
) -> ScanReport:
    """Summarise and judge every tensor of checkpoint files or folders whose name `filter` matches (re.search).

    `units` also judges the rows of matrices. `serve_dtype` is the type whose range the values should fit: "auto" is
    float16 for float32 and float64 tensors, "none" judges no range. `compare` is a baseline, paired by name.
    `progress(done, total)` is called with bytes. Raises CheckpointError for a file that cannot be read.
    """
    if serve_dtype not in SERVE_DTYPES:
        raise ValueError(f"serve_dtype must be one of {', '.join(SERVE_DTYPES)}, not {serve_dtype!r}")
    if not isinstance(units, bool):
        raise TypeError(f"units: {units!r} is not True or False")
    pattern = _pattern(filter)
    files = _paths(paths)
    _check(compare, threads, progress)
    begin = time.perf_counter()
    entries = [entry for path in files for entry in _matching(path, pattern)]
    baseline = None if compare is None else _by_name(compare, _matching(compare, pattern))
    if baseline is not None:
        _by_name(", ".join(map(str, files)), entries)
    options = _Options(units, serve_dtype, threads)
    total = sum(entry.nbytes for entry in entries if entry.source)
    found: list[ScanEntry] = []
    done = 0
    # Judging rows reads the files as well, so then both take turns.
    for step in _steps(entries, threads) if units else _ahead(_steps(entries, threads)):
        found += [_judged(entry, summary, options) for entry, summary in step.finished]
        done += step.nbytes
        if progress is not None:
            progress(done, total)
    unpaired: tuple[Flag, ...] = ()
    if baseline is not None:
        found = [_with_change(one, entry, baseline, options) for one, entry in zip(found, entries, strict=True)]
        unpaired = _missing(entries, baseline)
    read = [one.statistics for one in found if one.statistics is not None]
    totals = Totals(
        tensors=len(found),
        skipped=len(found) - len(read),
        elements=sum(statistics.count for statistics in read),
        nbytes=total,
        seconds=time.perf_counter() - begin,
    )
    return ScanReport(tuple(found), unpaired, totals, baseline is not None)


def _paths(given: object) -> list[PathLike]:
    if isinstance(given, str | os.PathLike):
        given = [given]
    if not isinstance(given, Iterable) or isinstance(given, bytes):
        raise TypeError(f"paths: {given!r} is neither a path nor an iterable of paths")
    paths = list(given)
    if not paths:
        raise ValueError("paths: none are given")
    for path in paths:
        _check_path(path, "paths")
    return paths


def _check_path(path: object, argument: str) -> None:
    if not isinstance(path, str | os.PathLike):
        raise TypeError(f"{argument}: {path!r} is not a path")
    if not os.fspath(path):
        raise ValueError(f"{argument}: the path is empty")


def _check(compare: object, threads: object, progress: object) -> None:
    if compare is not None:
        _check_path(compare, "compare")
    if progress is not None and not callable(progress):
        raise TypeError(f"progress: {progress!r} cannot be called")
    summarize_many([], threads=threads)  # type: ignore[arg-type]  # it says what is wrong with them


def _pattern(text: str | re.Pattern[str] | None) -> re.Pattern[str] | None:
    if text is None or (isinstance(text, re.Pattern) and isinstance(text.pattern, str)):
        return text
    if not isinstance(text, str):
        raise TypeError(f"filter: {text!r} is neither text nor a pattern of text")
    try:
        return re.compile(text)
    except (re.error, RecursionError, OverflowError) as error:
        raise ValueError(f"filter {text!r} is not a regular expression: {error}") from error


def _matching(path: PathLike, pattern: re.Pattern[str] | None) -> list[Entry]:
    entries = read_checkpoint(Path(path))
    return entries if pattern is None else [entry for entry in entries if pattern.search(entry.name)]


def _by_name(path: PathLike, entries: list[Entry]) -> dict[str, Entry]:
    named = {entry.name: entry for entry in entries}
    if len(named) != len(entries):
        raise CheckpointError(path, "holds two tensors of one name, so names do not pair them")
    return named


def _steps(entries: list[Entry], threads: int | None) -> Iterator[_Step]:
    """The entries in order as they are finished; only one file is mapped at a time."""
    for _, group in groupby(entries, key=lambda entry: entry.path):
        members = list(group)
        yield from _file_steps(members, threads)
        _close(members)


def _file_steps(entries: list[Entry], threads: int | None) -> Iterator[_Step]:
    """Small neighbours in one call, large tensors in windows."""
    batch: list[Entry] = []
    nbytes = 0
    for entry in entries:
        if nbytes + entry.nbytes > WINDOW or len(batch) == BATCH_TENSORS:
            yield _batch(batch, threads)
            batch, nbytes = [], 0
        if entry.source is not None and entry.nbytes > WINDOW:
            accumulator = Accumulator(entry.dtype, histogram="sampled", resolution=RESOLUTION, threads=threads)
            for window in entry.source.windows(WINDOW):
                accumulator.update(as_tensor(window, entry.dtype))
                yield _Step(window.nbytes, [])
            yield _Step(0, [(entry, accumulator.summary())])
        else:
            batch.append(entry)
            nbytes += entry.nbytes
    yield _batch(batch, threads)


def _batch(batch: list[Entry], threads: int | None) -> _Step:
    readable = [(entry, entry.source) for entry in batch if entry.source is not None]
    tensors = [as_tensor(source.whole(), entry.dtype) for entry, source in readable]
    table = iter(summarize_many(tensors, histogram="sampled", resolution=RESOLUTION, threads=threads))
    for _, source in readable:
        source.release()
    finished = [(entry, None if entry.source is None else next(table)) for entry in batch]
    return _Step(sum(entry.nbytes for entry, _ in readable), finished)


def _ahead(steps: Iterator[_Step]) -> Iterator[_Step]:
    """The same steps, each computed by a second thread while its predecessor is judged."""
    with ThreadPoolExecutor(1) as pool:
        step = pool.submit(next, steps, None)
        while (finished := step.result()) is not None:
            step = pool.submit(next, steps, None)
            yield finished


def _close(entries: Iterable[Entry]) -> None:
    for entry in entries:
        if entry.source is not None:
            entry.source.close()


def _judged(entry: Entry, summary: Summary | None, options: _Options) -> ScanEntry:
    if summary is None:
        flags: tuple[Flag, ...] = (SKIPPED.flag(entry.name, entry.skipped),)
        return _entry(entry, None, "", flags)
    rows, unread, matrix = None, "", is_matrix(entry.dtype, entry.shape)
    if options.units and matrix:
        try:
            rows = _rows(entry, options.threads)
        except RowsNotReadableError as error:
            unread = str(error)
    target = target_of(entry.dtype, options.serve_dtype)
    facts = Facts(entry.name, entry.dtype, entry.shape, summary, target, matrix, rows, unread, entry.tied_to)
    return _entry(entry, statistics_of(summary), sparkline(summary), judge(facts))


def _entry(entry: Entry, statistics: Statistics | None, line: str, flags: tuple[Flag, ...]) -> ScanEntry:
    return ScanEntry(entry.name, entry.path, entry.dtype, entry.shape, entry.nbytes, statistics, line, flags)


def _rows(entry: Entry, threads: int | None) -> Rows | None:
    """Zero, constant and equal rows; None where there are not two rows of MIN_ROW elements."""
    assert entry.source is not None
    count = entry.shape[0]
    if count < 2 or element_count(entry.shape) < count * MIN_ROW:
        return None
    if count > MAX_ROWS:
        raise RowsNotReadableError(f"there are {count}, more than {MAX_ROWS}")
    parts: list[tuple[Bits, ...]] = []
    for matrix in entry.source.rows(WINDOW, ROWS_AT_ONCE):
        table = summarize_units(as_tensor(matrix, entry.dtype), 0, fingerprint=True, threads=threads)
        columns = (table.column(name) for name in ("count", "zeros", "nonfinite", "min", "max", "fingerprint"))
        elements, zeros, nonfinite, low, high, fingerprint = columns
        dead = zeros == elements
        parts.append((dead, ~dead & (nonfinite == 0) & (low == high), fingerprint))
    dead, constant, fingerprint = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    return Rows(
        count, np.flatnonzero(dead), np.flatnonzero(constant), _groups(fingerprint, np.flatnonzero(~(dead | constant)))
    )


def _groups(fingerprint: Bits, rows: Indices) -> tuple[Indices, ...]:
    """Rows among `rows` that share a fingerprint, group by group, in ascending order."""
    order = rows[np.argsort(fingerprint[rows], kind="stable")]
    cuts = np.flatnonzero(fingerprint[order][1:] != fingerprint[order][:-1]) + 1
    groups = [group for group in np.split(order, cuts) if len(group) > 1]
    return tuple(sorted(groups, key=lambda group: int(group[0])))


def _with_change(one: ScanEntry, entry: Entry, baseline: dict[str, Entry], options: _Options) -> ScanEntry:
    """The same entry with what changed since the baseline."""
    old = baseline.get(entry.name)
    if old is None:
        return replace(one, flags=(*one.flags, ADDED.flag(entry.name, "the baseline has no tensor of this name")))
    flags: list[Flag] = []
    if old.shape != entry.shape:
        flags.append(RESHAPED.flag(entry.name, f"shape {list(old.shape)} became {list(entry.shape)}"))
    if old.dtype != entry.dtype:
        flags.append(RETYPED.flag(entry.name, f"dtype {old.dtype} became {entry.dtype}"))
    change: Change | None = None
    if not flags and (old.source is None or entry.source is None):
        flags.append(NOT_COMPARED.flag(entry.name, "its elements are not read"))
    elif not flags and entry.dtype.startswith("complex"):
        flags.append(NOT_COMPARED.flag(entry.name, f"the dtype is {entry.dtype}"))
    elif not flags:
        change = _change(old, entry, options.threads)
    return replace(one, flags=(*one.flags, *flags), change=change)


def _change(old: Entry, new: Entry, threads: int | None) -> Change:
    merged: Comparison | None = None
    for before, after in _paired(old, new):
        part = compare_tensors(as_tensor(before, old.dtype), as_tensor(after, new.dtype), threads=threads)
        merged = part if merged is None else merged.merge(part)
    if merged is None:
        empty = as_tensor(np.empty(0, np.float32), "float32")
        merged = compare_tensors(empty, empty)
    _close((old, new))
    return change_of(merged)


def _paired(old: Entry, new: Entry) -> Iterator[tuple[Bits, Bits]]:
    """Equal pieces of two tensors in C order; sources cut differently are cut again."""
    sources = [entry.source.windows(WINDOW // 2, logical=True) for entry in (old, new) if entry.source is not None]
    left: Bits = np.empty(0, np.uint8)
    right: Bits = np.empty(0, np.uint8)
    while True:
        if not len(left):
            left = next(sources[0], left).reshape(-1)
        if not len(right):
            right = next(sources[1], right).reshape(-1)
        size = min(len(left), len(right))
        if not size:
            return
        yield left[:size], right[:size]
        left, right = left[size:], right[size:]


def _missing(entries: list[Entry], baseline: dict[str, Entry]) -> tuple[Flag, ...]:
    names = {entry.name for entry in entries}
    return tuple(MISSING.flag(name, "only the baseline has this tensor") for name in baseline if name not in names)
