"""One tensor's summaries over steps, as arrays."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from tensometer._core import LogHistogram, log_histogram, unpack
from tensometer.store.segment import ROW_COLUMNS, Column, TensorKey

_NO_HISTOGRAM = ROW_COLUMNS["histogram_resolution"][1]


@dataclass(frozen=True)
class Series:
    """Rows of one tensor in the order of their steps; rows of one step in the order in which they were written.

    key: what the tensor is, as of the last row. steps: int64, shape (n,). times: float64, seconds since 1970. phases:
    the name of each row's phase. Any statistic of Summary is an array of shape (n,): `series["l2"]`.
    """

    key: TensorKey
    rank: int
    phases: tuple[str, ...]
    columns: dict[str, Column] = field(repr=False)
    bins_of_rows: Callable[[], dict[str, Column]] = field(repr=False)

    def __len__(self) -> int:
        return len(self.steps)

    @property
    def steps(self) -> npt.NDArray[np.int64]:
        """Step of each row."""
        return self.columns["step"]

    @property
    def times(self) -> npt.NDArray[np.float64]:
        """When each row was recorded, in seconds since 1970."""
        return self.columns["time"]

    def __getitem__(self, statistic: str) -> npt.NDArray[Any]:
        """A statistic of every row, uint64 for counts and float64 for others. ValueError for an unknown name."""
        return unpack(self.columns, statistic, len(self))

    def histogram(self, row: int) -> LogHistogram | None:
        """The histogram of a row (negative ones count from the end), None if it has none. IndexError beyond."""
        row = range(len(self))[row]
        found, ends = self._bins
        resolution = int(found["histogram_resolution"][row])
        if resolution == _NO_HISTOGRAM:
            return None
        part = slice(int(ends[row]) - int(found["histogram_bins"][row]), int(ends[row]))
        bins = np.cumsum(found["bin_step"][part], dtype=np.uint32)
        return log_histogram(bins, found["bin_count"][part], resolution, bool(found["histogram_sampled"][row]))

    @cached_property
    def _bins(self) -> tuple[dict[str, Column], npt.NDArray[np.int64]]:
        found = self.bins_of_rows()
        return found, np.cumsum(found["histogram_bins"], dtype=np.int64)

    def histograms(self) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.float64]]:
        """Counts of all rows in the bins that any of them has: shape (n, bins), and the bins' edges: shape (bins, 2).

        Rows without a histogram count nothing; finer ones are coarsened to the coarsest.
        """
        found = [self.histogram(row) for row in range(len(self))]
        resolution = min((one.resolution for one in found if one is not None), default=0)
        coarse = [None if one is None else one.coarsen(resolution) for one in found]
        arrays = [one.bins for one in coarse if one is not None]
        bins = np.unique(np.concatenate(arrays)) if arrays else np.zeros(0, np.uint32)
        counts = np.zeros((len(self), len(bins)), np.uint64)
        for row, one in enumerate(coarse):
            if one is not None:
                counts[row, np.searchsorted(bins, one.bins)] = one.counts
        return counts, log_histogram(bins, np.ones(len(bins), np.uint64), resolution, False).edges
