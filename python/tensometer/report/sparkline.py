"""A histogram as one line of text."""

import numpy as np
import numpy.typing as npt

from tensometer._core import Summary

WIDTH = 20
BLOCKS = " ▁▂▃▄▅▆▇█"
ASCII = " .:-=+*#@"
_GRID = np.arange(WIDTH + 1) / WIDTH
_TO_ASCII = str.maketrans(BLOCKS + "\u2026", ASCII + "~")


def sparkline(summary: Summary) -> str:
    """The finite elements between min and max, WIDTH equal bins; the tallest is full, blank is none at all."""
    histogram = summary.histogram
    low, high = float(summary.min), float(summary.max)
    # Written so that NaN (no finite element) and a width beyond float64 give no line; a sample may have met no element.
    if histogram is None or histogram.total == 0 or not 0 < high - low < np.inf:
        return ""
    edges = low + _GRID * (high - low)
    # The outermost bins reach beyond min and max: all that they hold belongs to the first and the last column.
    edges[0] = min(low, histogram.edges[0, 0])
    edges[-1] = max(high, histogram.edges[-1, 1])
    counts = histogram.to_uniform(edges)
    levels = np.ceil(counts * ((len(BLOCKS) - 1) / max(1.0, counts.max()))).astype(int)
    return "".join(BLOCKS[level] for level in levels.tolist())


def trend(values: npt.NDArray[np.float64]) -> str:
    """A series from its first to its last value, at most WIDTH of them evenly chosen; blank where not finite."""
    chosen = values[np.unique(np.linspace(0, len(values) - 1, min(WIDTH, len(values))).astype(np.intp))]
    finite = chosen[np.isfinite(chosen)].tolist()
    if not finite:
        return " " * len(chosen)
    low, height = min(finite), max(finite) - min(finite)
    steps = len(BLOCKS) - 2
    return "".join(
        BLOCKS[1 + (round(steps * (value - low) / height) if height > 0 else 0)] if np.isfinite(value) else " "
        for value in chosen.tolist()
    )


def as_ascii(text: str) -> str:
    """For output that has no block characters and no ellipsis."""
    return text.translate(_TO_ASCII)
