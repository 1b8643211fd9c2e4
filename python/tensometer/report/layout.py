"""Which columns of a table fit on a terminal, and how names are shortened."""

from collections.abc import Collection, Iterable, Iterator, Sequence

# The first to go when a table is too wide: what the other columns or the flags tell best goes last.
_LEAST = ("mean", "l2", "dtype", "zeros", "nonfinite", "std", "histogram", "shape", "largest |difference|", "cosine")
# Names keep this much until all of these are gone and the flags are folded: "e.l.11.a.output.LayerNorm.weight" fits.
_NAME_WIDTH = 36
_LEAST_NAME_WIDTH = 12
_FOLDING = "flags"
COLUMN_GAP = 2


def fitting(headings: Sequence[str], rows: Sequence[Sequence[str]], width: int) -> tuple[list[str], int]:
    """The headings that fit into `width` characters, and how many are left for the first column, the name."""
    widths = {heading: _width(heading, [row[at] for row in rows]) for at, heading in enumerate(headings)}
    name = headings[0]
    wanted = min(widths[name], _NAME_WIDTH)
    kept = list(headings)

    def left() -> int:
        return width - sum(widths[heading] + COLUMN_GAP for heading in kept if heading != name)

    for heading in _LEAST:
        if left() >= wanted:
            break
        if heading in kept:
            kept.remove(heading)
    if _FOLDING in kept:
        at = headings.index(_FOLDING)
        words = max(_width(_FOLDING, row[at].split()) for row in (headings, *rows))
        widths[_FOLDING] = max(words, widths[_FOLDING] - max(0, wanted - left()))
    return kept, max(_LEAST_NAME_WIDTH, min(widths[name], left()))


def _width(heading: str, cells: Sequence[str]) -> int:
    return max(len(heading), max(map(len, cells), default=0))


def shortened(name: str, width: int) -> str:
    """The name with its first parts cut to a letter, and, if that is not enough, with its middle left out.

    Numbers stay as long as they can, for layers differ by nothing else; the end tells more than the beginning.
    """
    parts = name.split(".")
    for at, part in enumerate(parts[:-1]):
        if len(name) <= width:
            return name
        parts[at] = part if part.isdecimal() else part[:1]
        name = ".".join(parts)
    if len(name) <= width:
        return name
    begin = (width - 1) // 3
    return name[:begin] + "\u2026" + name[len(name) - (width - 1 - begin) :]


def aligned(headings: Sequence[str], rows: Iterable[Sequence[str]], numeric: Collection[str]) -> Iterator[str]:
    """The lines of a table as plain text, numbers to the right."""
    table = [headings, *rows]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for row in table:
        cells = zip(row, [heading in numeric for heading in headings], widths, strict=True)
        yield "  ".join(cell.rjust(width) if right else cell.ljust(width) for cell, right, width in cells).rstrip()
