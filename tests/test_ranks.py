"""One tensor in several processes: shards merge into the whole, replicas that differ are named."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensometer
from tensometer import open_run
from tensometer.store import Record, RunWriter, TensorKey
from tensometer.store.ranks import Difference


def write(place: Path, rank: int, size: int, tensors: dict[int, np.ndarray[Any, Any]], **facts: Any) -> None:
    writer = RunWriter(place, rank=rank, world_size=size)
    for step, x in tensors.items():
        table = tensometer.summarize_many([x], histogram=True, resolution=3, fingerprint="placement" not in facts)
        writer.submit(Record(step, 0.0, "train", [TensorKey("w", "weights", x.dtype.name, x.shape, facts)], table))
    assert writer.close()


def shard(index: int, of: int, *shape: int) -> dict[str, Any]:
    return {"placement": {"kind": "shard", "index": index, "of": of, "shape": list(shape)}, "requires_grad": True}


def test_shards_merge_into_the_whole(tmp_path: Path, rng: np.random.Generator) -> None:
    wholes = {step: rng.standard_normal((30, 50)).astype(np.float32) for step in (0, 5, 10)}
    wholes[5][3, 7], wholes[10][0] = np.nan, 0
    for rank, rows in enumerate((slice(0, 12), slice(12, 30), slice(30, 30))):  # the last has nothing
        write(tmp_path, rank, 3, {step: x[rows] for step, x in wholes.items()}, **shard(rank, 3, 30, 50))
    series = open_run(tmp_path).merged("w")
    assert (series.key.shape, series.key.facts) == ((30, 50), {"requires_grad": True})
    assert series.steps.tolist() == [0, 5, 10]
    expected = tensometer.summarize_many(list(wholes.values()), histogram=True, resolution=3)
    for statistic in ("count", "zeros", "negatives", "nan", "posinf", "min", "max"):
        assert series[statistic].tolist() == expected.column(statistic).tolist()
    for statistic in ("mean", "std", "l1", "l2"):
        assert series[statistic].tolist() == pytest.approx(expected.column(statistic).tolist(), rel=1e-6, abs=1e-9)
    for row in range(3):
        assert series.histogram(row) == expected[row].histogram


def test_steps_that_a_rank_misses_are_left_out(tmp_path: Path) -> None:
    write(tmp_path, 0, 2, {step: np.ones(2) for step in (0, 1, 2)}, **shard(0, 2, 4))
    write(tmp_path, 1, 2, {step: np.ones(2) for step in (0, 2, 3)}, **shard(1, 2, 4))
    series = open_run(tmp_path).merged("w")
    assert (series.steps.tolist(), series["sum"].tolist()) == ([0, 2], [4, 4])


def test_what_are_no_shards(tmp_path: Path) -> None:
    write(tmp_path / "a", 0, 2, {0: np.ones(2)}, placement={"kind": "replicate"})
    write(tmp_path / "a", 1, 2, {0: np.ones(2)}, placement={"kind": "replicate"})
    with pytest.raises(ValueError, match=r"w: of rank 0 is no shard of 2, but \{'kind': 'replicate'\}"):
        open_run(tmp_path / "a").merged("w")
    write(tmp_path / "b", 0, 1, {0: np.ones(2)})
    with pytest.raises(ValueError, match="w: of rank 0 is no shard of 1, but alone"):
        open_run(tmp_path / "b").merged("w")
    with pytest.raises(KeyError, match="'x' was not recorded"):
        open_run(tmp_path / "b").merged("x")


def test_replicas(tmp_path: Path) -> None:
    steps = {step: np.arange(6.0) + step for step in range(4)}
    steps[3][0] = np.nan  # as in the others: no difference
    turned = steps | {2: steps[2][::-1].copy()}
    for rank, tensors in enumerate((steps, steps, turned)):
        write(tmp_path, rank, 3, tensors)
    # The same numbers in another order: every statistic is the same, the fingerprint is not.
    assert open_run(tmp_path).replicas("w") == [Difference(2, (2,))]


def test_replicas_without_fingerprints(tmp_path: Path) -> None:
    same = {step: np.arange(3.0) for step in range(3)}
    for rank, tensors in enumerate((same, same | {1: np.arange(3.0) + 1e-9, 2: np.ones(3)})):
        write(tmp_path, rank, 2, tensors, placement={"kind": "replicate"})
    assert open_run(tmp_path).replicas("w") == [Difference(1, (1,)), Difference(2, (1,))]


def test_merging_columns() -> None:
    with pytest.raises(TypeError, match="parts: one of them is not a dictionary of columns"):
        tensometer._core.merge_packed([3], 1)  # type: ignore[list-item]
    with pytest.raises(ValueError, match="columns: count is not a column of 2 numbers"):
        tensometer._core.merge_packed([{"count": np.ones(1, np.uint64)}], 2)
    assert tensometer._core.merge_packed([], 2)["count"].tolist() == [0, 0]
