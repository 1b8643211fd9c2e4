"""What a scan found, as plain values that no file or mapping stands behind."""

from dataclasses import dataclass, fields
from operator import attrgetter

from tensometer._core import Comparison, Summary
from tensometer.flags import Flag, Severity


@dataclass(frozen=True, slots=True)
class Statistics:
    """The statistics of a Summary that a scan keeps; the histogram remains as the sparkline."""

    count: int
    zeros: int
    negatives: int
    nan: int
    posinf: int
    neginf: int
    min: float | int
    max: float | int
    mean: float
    std: float
    sum: float
    l1: float
    l2: float
    linf: float
    rms: float
    abs_mean: float

    @property
    def nonfinite(self) -> int:
        """Elements that are NaN or infinite."""
        return self.nan + self.posinf + self.neginf


@dataclass(frozen=True, slots=True)
class Change:
    """The statistics of a Comparison that a scan keeps."""

    relative_update: float
    cosine: float
    changed: int
    changed_fraction: float
    max_abs_difference: float
    old_l2: float
    new_l2: float
    nonfinite_changes: int


STATISTICS = tuple(field.name for field in fields(Statistics))
CHANGES = tuple(field.name for field in fields(Change))
_statistics = attrgetter(*STATISTICS)
_change = attrgetter(*CHANGES[:-1], "nonfinite")


def statistics_of(summary: Summary) -> Statistics:
    """The kept statistics, read in one call."""
    return Statistics(*_statistics(summary))


def change_of(comparison: Comparison) -> Change:
    """The kept statistics, read in one call."""
    return Change(*_change(comparison))


@dataclass(frozen=True, slots=True)
class ScanEntry:
    """One tensor. `statistics` is None where it was skipped, `change` where it was not compared."""

    name: str
    path: str
    dtype: str
    shape: tuple[int, ...]
    nbytes: int
    statistics: Statistics | None
    sparkline: str
    flags: tuple[Flag, ...]
    change: Change | None = None


@dataclass(frozen=True, slots=True)
class Totals:
    """The whole scan. `nbytes` counts what was read for the summaries."""

    tensors: int
    skipped: int
    elements: int
    nbytes: int
    seconds: float


@dataclass(frozen=True, slots=True)
class ScanReport:
    """Every tensor with its flags; `unpaired` are flags of tensors that only the baseline of a comparison has."""

    entries: tuple[ScanEntry, ...]
    unpaired: tuple[Flag, ...]
    totals: Totals
    compared: bool = False

    @property
    def flags(self) -> tuple[Flag, ...]:
        """All flags, in the order of the tensors."""
        return (*(flag for entry in self.entries for flag in entry.flags), *self.unpaired)

    @property
    def worst(self) -> Severity | None:
        """The highest severity, None if there is no flag."""
        return max((flag.severity for flag in self.flags), default=None)

    def __getitem__(self, name: str) -> ScanEntry:
        """The first tensor of that name."""
        for entry in self.entries:
            if entry.name == name:
                return entry
        raise KeyError(name)
