"""The segments of one rank as one."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from tensometer.store.listing import in_phase
from tensometer.store.segment import BIN_COLUMNS, ROW_COLUMNS, Column, Segment, SegmentError


@dataclass(frozen=True)
class Part:
    """A segment, whose columns number tensors and phases as the run does."""

    path: str
    segment: Segment
    columns: dict[str, Column]


class Joined:
    """All segments of one rank, and where each tensor's rows are: a series costs no search through the others."""

    def __init__(self, parts: list[Part], damaged: Callable[[str, Exception], None]) -> None:
        self._parts, self._tell = parts, damaged
        self.columns = {
            name: np.concatenate([np.zeros(0, dtype), *(part.columns[name] for part in parts)])
            for name, (dtype, _) in ROW_COLUMNS.items()
        }
        self._order = np.argsort(self.columns["tensor"], kind="stable")
        self._sorted = self.columns["tensor"][self._order]

    @cached_property
    def bins(self) -> tuple[dict[str, Column], npt.NDArray[np.int64]]:
        """Columns of all bins, and where each row's bins end. Rows whose bins are damaged have no histogram."""
        found = [{name: np.zeros(0, dtype) for name, (dtype, _) in BIN_COLUMNS.items()}]
        first = 0
        for part in self._parts:
            rows = slice(first, first + part.segment.rows)
            first = rows.stop
            try:
                found.append(part.segment.bins())
            except SegmentError as error:
                self._tell(part.path, error)
                self.columns["histogram_bins"][rows] = 0
                self.columns["histogram_resolution"][rows] = ROW_COLUMNS["histogram_resolution"][1]
        columns = {name: np.concatenate([one[name] for one in found]) for name in BIN_COLUMNS}
        return columns, np.cumsum(self.columns["histogram_bins"], dtype=np.int64)

    def bins_of(self, rows: npt.NDArray[np.intp]) -> dict[str, Column]:
        """The bins of some rows, and the columns of rows that tell of them."""
        columns, ends = self.bins
        lengths = self.columns["histogram_bins"][rows].astype(np.int64)
        # Positions first[0] .. first[0] + lengths[0] - 1, first[1] .., one after another.
        first = ends[rows] - lengths
        at = np.repeat(first - (np.cumsum(lengths) - lengths), lengths) + np.arange(int(lengths.sum()))
        about = {name: self.columns[name][rows] for name in self.columns if name.startswith("histogram_")}
        return about | {name: column[at] for name, column in columns.items()}

    @property
    def last_step(self) -> int:
        """The last step of the rank."""
        return int(self.columns["step"].max(initial=-1))

    def rows(self, tensors: list[int], phase: int | None) -> npt.NDArray[np.intp]:
        """Rows of some tensors in the order of their steps, and in the order of writing within a step."""
        first = np.searchsorted(self._sorted, tensors, "left").tolist()
        last = np.searchsorted(self._sorted, tensors, "right").tolist()
        parts = [self._order[begin:end] for begin, end in zip(first, last, strict=True)]
        rows = np.sort(np.concatenate(parts)) if parts else np.zeros(0, np.intp)
        rows = rows[in_phase(self.columns["phase"][rows], phase)]
        return np.asarray(rows[np.argsort(self.columns["step"][rows], kind="stable")])
