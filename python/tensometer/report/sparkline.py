"""A histogram as one line of text."""

import numpy as np

from tensometer._core import Summary

WIDTH = 20
BLOCKS = " ▁▂▃▄▅▆▇█"
ASCII = " .:-=+*#@"
_GRID = np.arange(WIDTH + 1) / WIDTH
_TO_ASCII = str.maketrans(BLOCKS, ASCII)


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


def as_ascii(text: str) -> str:
    """For output that has no block characters."""
    return text.translate(_TO_ASCII)
