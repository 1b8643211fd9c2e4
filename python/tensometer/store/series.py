"""One tensor's summaries over steps, as arrays."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tensometer._core import LogHistogram, log_histogram, unpack
from tensometer.store.segment import BIN_COLUMNS, ROW_COLUMNS, Column, TensorKey

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
    columns: dict[str, Column]

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
        resolution = int(self.columns["histogram_resolution"][row])
        if resolution == _NO_HISTOGRAM:
            return None
        ends = np.cumsum(self.columns["histogram_bins"], dtype=np.int64)
        part = slice(int(ends[row]) - int(self.columns["histogram_bins"][row]), int(ends[row]))
        bins = np.cumsum(self.columns["bin_step"][part], dtype=np.uint32)
        sampled = bool(self.columns["histogram_sampled"][row])
        return log_histogram(bins, self.columns["bin_count"][part], resolution, sampled)

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


def taken(columns: dict[str, Column], rows: npt.NDArray[np.intp], bin_ends: npt.NDArray[np.int64]) -> dict[str, Column]:
    """The columns of some rows, with their bins. bin_ends: where each row's bins end."""
    lengths = columns["histogram_bins"][rows].astype(np.int64)
    first = bin_ends[rows] - lengths
    # Positions first[0] .. first[0] + lengths[0] - 1, first[1] .., one after another.
    before = np.cumsum(lengths) - lengths
    bins = np.repeat(first - before, lengths) + np.arange(int(lengths.sum()))
    return {name: column[bins if name in BIN_COLUMNS else rows] for name, column in columns.items()}
