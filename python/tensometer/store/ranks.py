"""One tensor in several processes: its shards merged, its replicas compared."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from tensometer._core import merge_packed
from tensometer.store.segment import ROW_COLUMNS, Column
from tensometer.store.series import Series

# What says when and of what a row is, not what was found.
_ABOUT = ("step", "time", "phase", "tensor")


@dataclass(frozen=True)
class Difference:
    """Ranks whose summaries of a tensor are not those of the first rank, at a step."""

    step: int
    ranks: tuple[int, ...]


def merged(shards: Sequence[Series]) -> Series:
    """The summaries of whole tensors, from those of their shards at the steps that all ranks recorded.

    Counts, extremes and histograms are exact, moments as SummaryTable.total() has them. Fingerprints are lost: 0.
    """
    first = shards[0]
    rows = _common(shards)
    parts = [{name: column[at] for name, column in one.columns.items()} for one, at in zip(shards, rows, strict=True)]
    count = len(rows[0])
    columns = {name: parts[0][name] for name in _ABOUT} | merge_packed(parts, count)
    columns["fingerprint"] = np.zeros(count, ROW_COLUMNS["fingerprint"][0])
    placement = first.key.facts.get("placement", {})
    shape = tuple(placement.get("shape", first.key.shape))
    facts = {name: value for name, value in first.key.facts.items() if name != "placement"}
    phases = tuple(first.phases[row] for row in rows[0].tolist())

    def bins() -> dict[str, Column]:
        return _merged_bins(shards, rows)

    return Series(replace(first.key, shape=shape, facts=facts), first.rank, phases, columns, bins)


def differences(replicas: Sequence[Series]) -> list[Difference]:
    """Steps at which replicas do not agree, of those that all ranks recorded, by every field that was stored.

    By fingerprints where there are any, which tell tensors apart that have the same statistics.
    """
    rows = _common(replicas)
    first, others = replicas[0], replicas[1:]
    found: dict[int, list[int]] = {}
    for other, at in zip(others, rows[1:], strict=True):
        differs = np.zeros(len(at), np.bool_)
        for name, column in first.columns.items():
            if name not in _ABOUT:
                differs |= ~_equal(column[rows[0]], other.columns[name][at])
        for step in first.steps[rows[0]][differs].tolist():
            found.setdefault(step, []).append(other.rank)
    return [Difference(step, tuple(ranks)) for step, ranks in sorted(found.items())]


def _equal(a: npt.NDArray[Any], b: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    return np.asarray((a == b) | ((a != a) & (b != b)))  # NaN is what it is in both


def _common(series: Sequence[Series]) -> list[npt.NDArray[np.intp]]:
    """Rows of each at the steps and phases that all have; the first of a step where there are several."""
    numbered = [
        {key: row for row, key in reversed(list(enumerate(zip(one.steps.tolist(), one.phases, strict=True))))}
        for one in series
    ]
    shared = [key for key in numbered[0] if all(key in other for other in numbered[1:])]
    shared.sort(key=lambda key: numbered[0][key])
    return [np.array([one[key] for key in shared], np.intp) for one in numbered]


def _merged_bins(shards: Sequence[Series], rows: Sequence[npt.NDArray[np.intp]]) -> dict[str, Column]:
    lengths, resolutions, sampled, steps, counts = [], [], [], [], []
    for index in range(len(rows[0])):
        found = [one.histogram(int(at[index])) for one, at in zip(shards, rows, strict=True)]
        known = [one for one in found if one is not None]
        whole = None
        if len(known) == len(found):
            resolution = min(one.resolution for one in known)
            whole = known[0].coarsen(resolution)
            for one in known[1:]:
                whole = whole.merge(one.coarsen(resolution))
        missing = ROW_COLUMNS["histogram_resolution"][1]
        resolutions.append(missing if whole is None else whole.resolution)
        sampled.append(whole is not None and whole.sampled)
        bins = np.zeros(0, np.uint32) if whole is None else whole.bins
        lengths.append(len(bins))
        steps.append(np.diff(bins, prepend=np.uint32(0)))
        counts.append(np.zeros(0, np.uint64) if whole is None else whole.counts)
    return {
        "histogram_bins": np.array(lengths, np.uint32),
        "histogram_resolution": np.array(resolutions, np.uint8),
        "histogram_sampled": np.array(sampled, np.uint8),
        "bin_step": np.concatenate([np.zeros(0, np.uint32), *steps]).astype(np.uint16),
        "bin_count": np.concatenate([np.zeros(0, np.uint64), *counts]),
    }
