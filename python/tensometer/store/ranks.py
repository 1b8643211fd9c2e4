"""One tensor over several ranks: shards that make up a whole, and replicas that should agree."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tensometer._core import merge_rows
from tensometer.store.segment import BIN_COLUMNS, ROW_COLUMNS, Column, TensorKey
from tensometer.store.series import Series

Numbers = npt.NDArray[np.int64]

_ABOUT = ("step", "time", "phase", "tensor", "fingerprint")
_HISTOGRAM = tuple(name for name in ROW_COLUMNS if name.startswith("histogram_"))
_FIELDS = tuple(name for name in ROW_COLUMNS if name not in (*_ABOUT, *_HISTOGRAM))


@dataclass(frozen=True)
class Difference:
    """Ranks whose summaries of a tensor, or of a shard, are not those of the lowest rank that has it, at a step."""

    step: int
    ranks: tuple[int, ...]


@dataclass(frozen=True)
class _Rows:
    """Rows of all ranks, sorted by step, phase, whole, turn, shard and rank.

    at: where they are in the series behind one another. same_whole, same_shard: whether a row is of the same whole (or
    the same shard of it) as the row before.
    """

    at: Numbers
    steps: Numbers
    shards_of_whole: Numbers
    same_whole: npt.NDArray[np.bool_]
    same_shard: npt.NDArray[np.bool_]


def merged(parts: Sequence[Series], keys: Sequence[TensorKey]) -> Series:
    """The shards of all ranks as one series. Of shards that several ranks have, the lowest speaks.

    Steps of which a shard is missing, or is not stored yet, have no row. Fingerprints are lost: 0. keys: what the
    numbers in the columns `tensor` mean. ValueError for a placement that does not tell how parts make up a whole.
    """
    for part in parts:
        for number in np.unique(part.columns["tensor"]).tolist():
            _shard(keys[number], needed=True)
    rows = _sorted_rows(parts, keys)
    chosen = ~rows.same_shard
    groups = np.cumsum(~rows.same_whole) - 1
    present = np.bincount(groups[chosen], minlength=int(groups[-1]) + 1)
    first = ~rows.same_whole
    complete = present == rows.shards_of_whole[first]
    numbers = np.where(complete, np.cumsum(complete) - 1, -1)
    # In the order of the parts, where the bins of rows are one after another.
    group_of = np.full(len(rows.at), -1, np.int64)
    group_of[rows.at[chosen]] = numbers[groups[chosen]]
    leading = rows.at[first][complete]
    columns = {name: np.concatenate([part.columns[name] for part in parts]) for name in ROW_COLUMNS}
    count = len(leading)
    found = merge_rows({name: columns[name] for name in _FIELDS}, group_of, count)
    found |= {name: columns[name][leading] for name in ("step", "time", "phase", "tensor")}
    # Within a step as they were written.
    order = np.lexsort((found["time"], found["step"]))
    phases = [phase for part in parts for phase in part.phases]

    def bins() -> dict[str, Column]:
        given = [part.bins_of_rows() for part in parts]
        names = (*_HISTOGRAM, *BIN_COLUMNS)
        joined = {name: np.concatenate([one[name] for one in given]) for name in names}
        places = np.full(count + 1, -1, np.int64)  # the last: of no group
        places[order] = np.arange(count)
        together = merge_rows(joined, places[group_of], count)
        return {name: together[name] for name in names}

    return Series(
        _whole_key(keys[int(columns["tensor"][leading[order[-1]] if count else 0])]),
        parts[0].rank,
        tuple(phases[row] for row in leading[order].tolist()),
        {name: column[order] for name, column in found.items() if name not in BIN_COLUMNS},
        bins,
    )


def differences(parts: Sequence[Series], keys: Sequence[TensorKey]) -> list[Difference]:
    """Steps at which ranks that have the same tensor, or the same shard of it, do not agree.

    By fingerprints where both have one, otherwise by every field of the summaries, bit for bit.
    """
    rows = _sorted_rows(parts, keys)
    reference = rows.at[~rows.same_shard][np.cumsum(~rows.same_shard) - 1]
    differ = np.zeros(len(rows.at), np.bool_)
    for name in _FIELDS:
        # Bits, for which NaN equals itself.
        column = np.concatenate([part.columns[name] for part in parts]).view(np.uint64)
        differ |= column[rows.at] != column[reference]
    prints = np.concatenate([part.columns["fingerprint"] for part in parts])
    mine, theirs = prints[rows.at], prints[reference]
    differ = np.where((mine != 0) & (theirs != 0), mine != theirs, differ)
    ranks = np.concatenate([np.full(len(part), part.rank) for part in parts])[rows.at]
    found: dict[int, set[int]] = {}
    for step, rank in zip(rows.steps[differ].tolist(), ranks[differ].tolist(), strict=True):
        found.setdefault(step, set()).add(rank)
    return [Difference(step, tuple(sorted(apart))) for step, apart in found.items()]


def _sorted_rows(parts: Sequence[Series], keys: Sequence[TensorKey]) -> _Rows:
    wholes: dict[tuple[str, int], int] = {}
    shards = [_shard(key, needed=False) for key in keys]
    whole_of = np.array(
        [wholes.setdefault((key.dtype, of), len(wholes)) for key, (_, of) in zip(keys, shards, strict=True)]
    )
    index_of = np.array([index for index, _ in shards], np.int64)
    columns = []
    for part in parts:
        tensors = part.columns["tensor"]
        named = (part.steps, part.columns["phase"].astype(np.int64), whole_of[tensors], index_of[tensors])
        columns.append(np.stack([*named[:3], _turns(named), named[3]]))
    table = np.concatenate(columns, axis=1)
    # Stable: of equal rows that of the first part, the lowest rank, comes first.
    order = np.lexsort(table[::-1])
    table = table[:, order]
    same = table[:, 1:] == table[:, :-1]
    same_shard = np.concatenate([[False], same.all(axis=0)])
    same_whole = np.concatenate([[False], same[:-1].all(axis=0)])
    counts = np.array([of for _, of in wholes], np.int64)
    return _Rows(order, table[0], counts[table[2]], same_whole, same_shard)


def _turns(named: tuple[Numbers, ...]) -> Numbers:
    """Of rows that are named alike, the last is 0, the one before 1, ...: what a resumed step has last counts."""
    order = np.lexsort(named[::-1])
    table = np.stack(named)[:, order]
    count = table.shape[1]
    last = np.ones(count, np.bool_)
    last[:-1] = (table[:, 1:] != table[:, :-1]).any(axis=0)
    ends = np.flatnonzero(last)
    positions = np.arange(count)
    turns = np.zeros(count, np.int64)
    turns[order] = ends[np.searchsorted(ends, positions)] - positions
    return turns


def _shard(key: TensorKey, *, needed: bool) -> tuple[int, int]:
    """Which part of how many a rank has. Without `needed`, what is not known to be a shard is the whole."""
    placement: Any = key.facts.get("placement")
    if isinstance(placement, dict):
        index, of = placement.get("index"), placement.get("of")
        if (
            placement.get("kind") == "shard"
            and isinstance(index, int)
            and isinstance(of, int)
            and 0 <= index < of < 2**31
        ):
            return index, of
        if placement.get("kind") == "replicate":
            return 0, 1
    if needed:
        raise ValueError(f"{key.name!r} has the placement {placement!r}, which tells of no parts of a whole")
    return 0, 1


def _whole_key(key: TensorKey) -> TensorKey:
    """Of the whole: in its shape, if the placement tells it."""
    shape = key.facts["placement"].get("shape")
    known = isinstance(shape, list) and all(isinstance(extent, int) for extent in shape)
    facts = {name: fact for name, fact in key.facts.items() if name != "placement"}
    return TensorKey(key.name, key.collection, key.dtype, tuple(shape) if known else key.shape, facts)
