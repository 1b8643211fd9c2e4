"""A scan's report as a table: by rich on a terminal, aligned plain text in a pipe."""

import shutil
from collections.abc import Iterable, Sequence
from typing import Any, Literal, TextIO

from tensometer.checkpoint import counted, printable
from tensometer.extras import available
from tensometer.flags import Flag, Severity
from tensometer.report.layout import COLUMN_GAP, aligned, fitting, shortened
from tensometer.report.sparkline import as_ascii
from tensometer.scan_report import ScanEntry, ScanReport, Statistics

_HEADINGS = ("name", "dtype", "shape", "min", "max", "mean", "std", "l2", "zeros", "nonfinite", "histogram", "flags")
_CHANGE_HEADINGS = ("name", "relative update", "cosine", "changed", "largest |difference|")
_NUMERIC = frozenset(("min", "max", "mean", "std", "l2", "zeros", "nonfinite", *_CHANGE_HEADINGS[1:]))
_STYLES = {Severity.NOTE: "cyan", Severity.WARNING: "yellow", Severity.ERROR: "bold red"}

Row = Sequence[str]


def write_table(report: ScanReport, stream: TextIO) -> None:
    """The tensors, what changed in them, every flag in words, and the totals."""
    rich = available("rich.console") if stream.isatty() else None
    if rich is not None:
        _write_rich(report, stream)
        return
    lines = [*aligned(_HEADINGS, map(_cells, report.entries), _NUMERIC)]
    if report.compared:
        lines += ["", *aligned(_CHANGE_HEADINGS, _change_rows(report), _NUMERIC), _unchanged(report)]
    lines += ["", *map(_flag_line, _worst_first(report.flags)), _totals(report)]
    write_text(stream, "\n".join(line.rstrip() for line in lines) + "\n")


def write_text(stream: TextIO, text: str) -> None:
    """Text whose block characters become ASCII where the stream has none."""
    stream.write(_encodable(text, stream.encoding))


def _encodable(text: str, encoding: str) -> str:
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return as_ascii(text).encode(encoding, "backslashreplace").decode(encoding)
    return text


def _write_rich(report: ScanReport, stream: TextIO) -> None:
    # Text objects throughout: in strings rich would obey markup, and names come from files.
    from rich.console import Console
    from rich.text import Text

    console = Console(file=stream, width=shutil.get_terminal_size().columns, highlight=False, emoji=False)
    _print_table(console, _HEADINGS, [_cells(entry) for entry in report.entries])
    if report.compared:
        _print_table(console, _CHANGE_HEADINGS, list(_change_rows(report)))
        console.print(Text(_unchanged(report)))
    for flag in _worst_first(report.flags):
        console.print(Text(_encodable(_flag_line(flag), console.encoding), _STYLES[flag.severity]))
    console.print(Text(_totals(report)))


def _print_table(console: Any, headings: Row, rows: Iterable[Row]) -> None:
    """What fits beside the names; columns that do not are named below."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    ascii_only = not console.encoding.lower().startswith("utf")
    rows = [[_encodable(cell, console.encoding) for cell in row] for row in rows]
    kept, name_width = fitting(headings, rows, console.width)
    form = box.ASCII if ascii_only else box.SIMPLE_HEAD
    table = Table(box=form, show_edge=False, pad_edge=False, padding=(0, COLUMN_GAP - 1, 0, 0))
    for heading in kept:
        justify: Literal["left", "right"] = "right" if heading in _NUMERIC else "left"
        overflow: Literal["crop", "ellipsis"] = "crop" if ascii_only else "ellipsis"
        table.add_column(heading, justify=justify, no_wrap=heading != "flags", overflow=overflow)
    columns = [headings.index(heading) for heading in kept]
    for row in rows:
        cells = [shortened(row[at], name_width) if at == 0 else row[at] for at in columns]
        table.add_row(*(Text(_encodable(cell, console.encoding)) for cell in cells))
    console.print(table)
    if len(kept) < len(headings):
        hidden = ", ".join(heading for heading in headings if heading not in kept)
        console.print(Text(f"not shown at this width: {hidden}", "dim"))


def _cells(entry: ScanEntry) -> Row:
    statistics = entry.statistics
    shape = "x".join(map(str, entry.shape)) or "scalar"
    head = (printable(entry.name), printable(entry.dtype), shape)
    flags = " ".join(dict.fromkeys(flag.name for flag in entry.flags))
    return (*head, *(("",) * 7 if statistics is None else _numbers(statistics)), entry.sparkline, flags)


def _numbers(statistics: Statistics) -> Row:
    s = statistics
    return (*map(_number, (s.min, s.max, s.mean, s.std, s.l2)), str(s.zeros), str(s.nonfinite))


def _change_rows(report: ScanReport) -> Iterable[Row]:
    for entry in report.entries:
        change = entry.change
        if change is not None and change.changed:
            numbers = (change.relative_update, change.cosine, change.changed_fraction, change.max_abs_difference)
            yield (printable(entry.name), *map(_number, numbers))


def _unchanged(report: ScanReport) -> str:
    changes = [entry.change for entry in report.entries if entry.change is not None]
    changed = len([change for change in changes if change.changed])
    return f"{changed} of {len(changes)} compared tensors changed"


def _number(value: float | int) -> str:
    return str(value) if isinstance(value, int) else f"{value:.4g}"


def _worst_first(flags: Iterable[Flag]) -> list[Flag]:
    return sorted(flags, key=lambda flag: -flag.severity)


def _flag_line(flag: Flag) -> str:
    return f"{flag.severity.label} [{flag.name}] {printable(flag.tensor)}: {printable(flag.sentence)}"


def _totals(report: ScanReport) -> str:
    totals = report.totals
    counts = {severity: sum(flag.severity == severity for flag in report.flags) for severity in reversed(Severity)}
    found = ", ".join(counted(count, severity.label) for severity, count in counts.items())
    skipped = f" ({totals.skipped} skipped)" if totals.skipped else ""
    speed = totals.nbytes / 1e9 / totals.seconds if totals.seconds else 0.0
    tensors = counted(totals.tensors, "tensor")
    return (
        f"{tensors}{skipped}, {counted(totals.elements, 'element')}, {counted(totals.nbytes, 'byte')} "
        f"in {totals.seconds:.3f} s ({speed:.2f} GB/s): {found}"
    )
