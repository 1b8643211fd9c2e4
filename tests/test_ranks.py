"""One tensor over several ranks: shards merged exactly, replicas compared."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import tensometer
from tensometer import _core
from tensometer.store import Record, RunWriter, TensorKey, open_run
from tensometer.store.ranks import Difference
from tensometer.store.table import STATISTICS

Array = npt.NDArray[Any]
REPLICATE = {"kind": "replicate"}


def shard(index: int, of: int = 2, **more: Any) -> dict[str, Any]:
    return {"kind": "shard", "index": index, "of": of, **more}


def write(place: Path, rank: int, rows: list[tuple[int, Any, Array]], world_size: int = 4, **options: Any) -> None:
    """Rows of the tensor w: step, placement, elements."""
    writer = RunWriter(place, rank=rank, world_size=world_size)
    for step, placement, x in rows:
        facts = {} if placement is None else {"placement": placement}
        key = TensorKey("w", "weights", x.dtype.name, x.shape, facts)
        table = tensometer.summarize_many([x], **({"histogram": True, "resolution": 3} | options))
        writer.submit(Record(step, 100.0 * rank + step, "train", [key], table))
    assert writer.close()


@pytest.mark.parametrize("dtype", ["float32", "float64", "int64", "uint64", "float16"])
def test_shards_are_one_tensor(tmp_path: Path, rng: np.random.Generator, dtype: str) -> None:
    """As the core merges their summaries; and counts, extremes and histograms as of the whole."""
    scale = 1e200 if dtype == "float64" else 1e18 if dtype.endswith("64") else 1.0
    wholes = [(abs(rng.standard_normal((7, 5))) * scale).astype(dtype) for _ in range(4)]
    if dtype.startswith("float"):
        wholes[2][0, 0], wholes[2][6, 4] = np.nan, np.inf
    for rank, part in ((0, slice(0, 3)), (1, slice(3, 5)), (2, slice(5, 5)), (3, slice(5, 7))):
        write(tmp_path, rank, [(step, shard(rank, 4, shape=[7, 5]), x[part]) for step, x in enumerate(wholes)])
    series = open_run(tmp_path).merged("w")
    assert (series.rank, series.key) == (0, TensorKey("w", "weights", dtype, (7, 5)))
    assert series.steps.tolist() == series.times.tolist() == [0, 1, 2, 3]
    assert series.phases == ("train",) * 4
    for step, x in enumerate(wholes):
        parts = tensometer.summarize_many(
            [x[:3], x[3:5], x[5:5], x[5:]], histogram=True, resolution=3, fingerprint=False
        )
        expected, whole = parts.total(), tensometer.summarize(x, histogram=True, resolution=3)
        for statistic in STATISTICS:
            np.testing.assert_equal(float(series[statistic][step]), float(getattr(expected, statistic)))
        for statistic in ("count", "zeros", "negatives", "nan", "posinf", "neginf", "min", "max"):
            assert series[statistic][step] == float(getattr(whole, statistic))
        assert series.histogram(step) == whole.histogram
    assert series.histograms()[0].sum(axis=1).tolist() == [35, 35, 33 if dtype.startswith("float") else 35, 35]


def test_steps_of_which_a_shard_is_missing(tmp_path: Path) -> None:
    write(tmp_path, 0, [(step, shard(0), np.full(3, step)) for step in (0, 1, 2, 4)])
    write(tmp_path, 1, [(step, shard(1), np.full(2, step)) for step in (0, 2, 3, 4)])
    run = open_run(tmp_path)
    series = run.merged("w")
    assert series.steps.tolist() == series["mean"].tolist() == [0, 2, 4]
    assert series["count"].tolist() == [5, 5, 5]
    assert [histogram.total for row in range(3) if (histogram := series.histogram(row))] == [5, 5, 5]
    write(tmp_path, 1, [(1, shard(1), np.full(2, 1))])
    run.refresh()
    assert run.merged("w").steps.tolist() == [0, 1, 2, 4]


def test_nothing_is_whole(tmp_path: Path) -> None:
    write(tmp_path, 0, [(0, shard(0), np.ones(3))])
    series = open_run(tmp_path).merged("w")
    assert (len(series), series["l2"].tolist(), series.histograms()[0].shape) == (0, [], (0, 0))


def test_a_resumed_step_is_merged_with_itself(tmp_path: Path) -> None:
    """Rank 1 had not stored step 1 when the run was cut off; both wrote it after the resumption."""
    write(tmp_path, 0, [(0, shard(0), np.zeros(2)), (1, shard(0), np.full(2, -7.0))])
    write(tmp_path, 1, [(0, shard(1), np.zeros(2))])
    for rank in (0, 1):
        write(tmp_path, rank, [(1, shard(rank), np.full(2, 1.0))])
    series = open_run(tmp_path).merged("w")
    assert (series.steps.tolist(), series["min"].tolist()) == ([0, 1], [0, 1])


def test_a_run_resumed_with_other_shards(tmp_path: Path) -> None:
    write(tmp_path, 0, [(0, shard(0), np.ones(6)), (1, shard(0, 3), np.ones(4))])
    write(tmp_path, 1, [(0, shard(1), np.ones(6)), (1, shard(1, 3), np.ones(4))])
    write(tmp_path, 2, [(1, shard(2, 3), np.ones(4))])
    assert open_run(tmp_path).merged("w")["count"].tolist() == [12, 12]


def test_shards_that_are_replicated(tmp_path: Path) -> None:
    """Two shards on four ranks, each twice: counted once; compared within the pairs."""
    for rank in range(4):
        rows = [(step, shard(rank % 2), np.full(3, step + rank % 2)) for step in range(3)]
        if rank == 3:
            rows[2] = (2, shard(1), np.full(3, 9))
        write(tmp_path, rank, rows)
    run = open_run(tmp_path)
    assert run.merged("w")["count"].tolist() == [6, 6, 6]
    assert run.merged("w")["max"].tolist() == [1, 2, 3]
    assert run.replicas("w") == [Difference(2, (3,))]


def test_histograms_of_which_one_is_missing(tmp_path: Path) -> None:
    write(tmp_path, 0, [(0, shard(0), np.ones(3)), (1, shard(0), np.ones(3))])
    write(tmp_path, 1, [(0, shard(1), np.ones(3))], histogram=False)
    write(tmp_path, 1, [(1, shard(1), np.ones(3))], resolution=5)
    series = open_run(tmp_path).merged("w")
    assert series.histogram(0) is None
    assert series.histogram(1) == tensometer.summarize(np.ones(6), histogram=True, resolution=3).histogram


@pytest.mark.parametrize("fingerprint", [False, True])
def test_replicas_that_part(tmp_path: Path, rng: np.random.Generator, fingerprint: bool) -> None:
    x = [rng.standard_normal(9).astype(np.float32) for _ in range(6)]
    x[0][0] = np.nan
    for rank in range(3):
        rows = [(step, REPLICATE, x[step].copy()) for step in range(6 - rank)]
        if rank == 2:
            rows[2][2][4] = np.nextafter(rows[2][2][4], np.float32(9))
            rows[3][2][4] = 0
        if rank == 1:
            rows[3][2][:] = 0
        write(tmp_path, rank, rows, fingerprint=fingerprint)
    assert open_run(tmp_path).replicas("w") == [Difference(2, (2,)), Difference(3, (1, 2))]
    assert open_run(tmp_path).merged("w")["count"].tolist() == [9] * 6


def test_fingerprints_see_what_summaries_do_not(tmp_path: Path) -> None:
    for rank, x in ((0, np.array([1.0, 2.0])), (1, np.array([2.0, 1.0]))):
        write(tmp_path / "without", rank, [(0, None, x)])
        write(tmp_path / "with", rank, [(0, None, x)], fingerprint=True)
    assert open_run(tmp_path / "without").replicas("w") == []
    assert open_run(tmp_path / "with").replicas("w") == [Difference(0, (1,))]


def test_ranks_without_the_tensor(tmp_path: Path) -> None:
    write(tmp_path, 2, [(0, REPLICATE, np.ones(3))])
    writer = RunWriter(tmp_path, rank=0, world_size=4)
    writer.submit(
        Record(0, 0.0, "train", [TensorKey("v", "weights", "float64", ())], tensometer.summarize_many([np.ones(())]))
    )
    writer.close()
    run = open_run(tmp_path)
    assert run.replicas("w") == []
    assert (run.merged("w").rank, run.merged("w")["count"].tolist()) == (2, [3])
    asked: list[Callable[[], object]] = [lambda: run.merged("x"), lambda: run.replicas("x")]
    for ask in asked:
        with pytest.raises(KeyError, match="'x' was not recorded"):
            ask()


def test_a_run_resumed_by_another_number_of_ranks(tmp_path: Path) -> None:
    """Whole on both ranks, then in shards: each step by its own placement."""
    for rank in (0, 1):
        write(tmp_path, rank, [(0, REPLICATE, np.ones(4)), (1, shard(rank), np.ones(2))])
    run = open_run(tmp_path)
    assert run.merged("w")["count"].tolist() == [4, 4]
    assert run.replicas("w") == []


def test_shards_that_differ_are_no_replicas(tmp_path: Path) -> None:
    for rank in (0, 1):
        write(tmp_path, rank, [(0, shard(rank), np.full(2, rank))])
    assert open_run(tmp_path).replicas("w") == []


def test_the_same_shard_twice_is_no_whole(tmp_path: Path) -> None:
    for rank in (0, 1):
        write(tmp_path, rank, [(0, shard(0), np.ones(2))])
    assert len(open_run(tmp_path).merged("w")) == 0


@pytest.mark.parametrize(
    "placement", [None, {"kind": "partial"}, {}, [], 7, shard(2), shard(-1), shard(0, 0), shard("0"), shard(0, 2**40)]
)
def test_placements_that_tell_nothing(tmp_path: Path, placement: Any) -> None:
    write(tmp_path, 0, [(0, placement, np.ones(3))])
    with pytest.raises(ValueError, match=r"'w' has the placement .*, which tells of no parts of a whole"):
        open_run(tmp_path).merged("w")


def test_rows_that_are_none() -> None:
    groups = np.zeros(2, np.int64)
    for columns, sentence in (
        ({"count": np.zeros(3, np.uint64)}, "columns: count is not a column of 2 numbers"),
        ({"count": np.full(2, 1 << 60, np.uint64)}, "columns: row 0 is no summary"),
        ({"count": np.full(2, (1 << 56) - 1, np.uint64)}, "columns: more elements than any tensor has"),
        ({"exponent": np.full(2, 1 << 62)}, "columns: row 0 is no summary"),
        ({"histogram_resolution": np.full(2, 99, np.uint8)}, "state"),
        ({"histogram_bins": np.ones(2, np.uint32)}, "columns: bin_step is not a column of 2 numbers"),
    ):
        if "histogram_bins" in columns:
            columns["bin_step"] = np.ones(3, np.uint16)
        with pytest.raises(ValueError, match=sentence):
            _core.merge_rows(columns, groups, 1)
    with pytest.raises(ValueError, match="groups: 1 is not below count"):
        _core.merge_rows({}, groups + 1, 1)
    assert _core.merge_rows({}, groups - 1, 1)["count"].tolist() == [0]
