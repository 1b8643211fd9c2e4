"""A run written by one thread and read by others: complete segments, damage, resumption, places that fail."""

import gc
import json
import threading
import time
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensometer
from run_records import record, write
from tensometer import store
from tensometer.store import Record, RunWriter, TensorKey, open_run


@pytest.mark.parametrize("rows", [1, 7, 1000])
def test_what_was_written_is_read(tmp_path: Path, rows: int) -> None:
    write(tmp_path / "run", range(50), flush_rows=rows, config={"every": 1})
    run = open_run(tmp_path / "run")
    assert (run.about["format"], run.about["world_size"], run.about["config"]) == (1, 1, {"every": 1})
    assert run.ranks == [0]
    assert [key.name for key in run.tensors()] == ["w", "b"]
    assert [key.name for key in run.tensors(collection="weights", regex="^b")] == ["b"]
    with pytest.raises(KeyError, match="collection: 'weihts' is not in the run; the nearest are weights"):
        run.tensors(collection="weihts")
    assert run.phases == ["train", "eval"]
    assert run.steps().tolist() == list(range(50))
    assert run.steps("eval").tolist() == [9, 19, 29, 39, 49]
    with pytest.raises(KeyError, match="phase: 'trian' is not in the run; the nearest are train"):
        run.steps("trian")
    series = run.series("w")
    assert len(series) == 50
    assert series.key == TensorKey("w", "weights", "float32", (10,))
    assert series.steps.tolist() == series["mean"].tolist() == series["max"].tolist() == list(range(50))
    assert series.times.tolist() == [1e9 + step for step in range(50)]
    assert series["count"].tolist() == [10] * 50
    assert series["std"].tolist() == [0] * 50
    assert run.series("b", phase="eval").steps.tolist() == [9, 19, 29, 39, 49]
    assert set(run.series("b", phase="eval").phases) == {"eval"}


def test_histograms_come_back(tmp_path: Path) -> None:
    write(tmp_path, range(20))
    series = open_run(tmp_path).series("b")
    for row in (0, 7, -1):
        found = series.histogram(row)
        assert found == record(int(series.steps[row])).table["b"].histogram
    with pytest.raises(IndexError):
        series.histogram(20)
    counts, edges = series.histograms()
    assert counts.shape == (20, len(edges))
    assert counts.sum(axis=1).tolist() == [10] * 20
    assert (np.diff(edges[:, 0]) > 0).all()
    x = np.arange(10, dtype=np.float32) + 19
    inside = [((x >= low) & (x < high)).sum() for low, high in edges]
    assert counts[19].tolist() == inside


def test_series_without_histograms(tmp_path: Path) -> None:
    writer = RunWriter(tmp_path)
    writer.submit(record(0, histogram=False))
    writer.close()
    series = open_run(tmp_path).series("w")
    assert series.histogram(0) is None
    assert series.histograms()[0].shape == (1, 0)


def test_names_that_were_not_recorded(tmp_path: Path) -> None:
    write(tmp_path, range(2))
    run = open_run(tmp_path)
    with pytest.raises(KeyError, match="'ww' was not recorded; the nearest are w"):
        run.series("ww")
    with pytest.raises(KeyError, match="rank: 3 is not in the run; there are 0"):
        run.series("w", rank=3)
    with pytest.raises(KeyError, match="rank: 1 is not in the run; there are 0"):
        run.events(rank=1)
    where = "'w' was not recorded in phase 'eval'; it was in collections weights, phases train, by ranks 0"
    with pytest.raises(KeyError, match=where):
        run.series("w", phase="eval")
    with pytest.raises(ValueError, match="statistic: 'l7' is unknown"):
        run.series("w")["l7"]


def test_one_name_in_two_collections(tmp_path: Path) -> None:
    writer = RunWriter(tmp_path)
    table = tensometer.summarize_many([np.ones(3), np.zeros(3)])
    keys = [TensorKey("w", collection, "float64", (3,)) for collection in ("weights", "gradients")]
    writer.submit(Record(0, 0.0, "train", keys, table))
    writer.close()
    run = open_run(tmp_path)
    with pytest.raises(KeyError, match=r"in several collections \(gradients, weights\); give collection="):
        run.series("w")
    assert run.series("w", collection="gradients")["max"].tolist() == [0]


def test_a_run_is_continued(tmp_path: Path) -> None:
    write(tmp_path, range(5))
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    write(tmp_path, range(3, 8))
    assert {path: path.read_bytes() for path in before} == before
    assert open_run(tmp_path).series("w").steps.tolist() == [0, 1, 2, 3, 3, 4, 4, 5, 6, 7]


def test_ranks(tmp_path: Path) -> None:
    for rank in (1, 0):
        write(tmp_path, range(rank, 4), rank=rank, world_size=2)
    run = open_run(tmp_path)
    assert run.ranks == [0, 1]
    assert [run.series("w", rank=rank).steps.tolist() for rank in (None, 0, 1)] == [[0, 1, 2, 3]] * 2 + [[1, 2, 3]]
    assert run.steps(rank=1).tolist() == [1, 2, 3]
    assert [(event.kind, event.rank) for event in run.events()] == [("end", 0), ("end", 1)]
    assert [event.rank for event in run.events("end", rank=1)] == [1]


def test_damaged_segments_are_named_and_skipped(tmp_path: Path) -> None:
    write(tmp_path, range(4), flush_rows=1)
    second = tmp_path / "rank-00000" / "000000001.tmz"
    second.write_bytes(second.read_bytes()[:-3])
    (tmp_path / "rank-00000" / "notes.txt").write_text("not a segment")
    with pytest.warns(RuntimeWarning, match=r"rank-00000/000000001\.tmz: has .* bytes of bins; .*; it is skipped"):
        run = open_run(tmp_path)
    assert list(run.damaged) == ["rank-00000/000000001.tmz"]
    assert run.series("w").steps.tolist() == [0, 2, 3]


def test_what_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="there is no run here"):
        open_run(tmp_path / "missing")
    with pytest.raises(FileNotFoundError, match="there is no run here"):
        open_run(tmp_path)
    (tmp_path / "run.json").write_text("{")
    with pytest.raises(ValueError, match=r"run\.json is not valid JSON"):
        open_run(tmp_path)
    for wrong in (None, 3, ""):
        with pytest.raises((TypeError, ValueError), match="url: "):
            open_run(wrong)  # type: ignore[arg-type]


def test_reading_while_writing(tmp_path: Path) -> None:
    done = threading.Event()

    def training() -> None:
        write(tmp_path, range(400), flush_rows=3)
        done.set()

    thread = threading.Thread(target=training)
    thread.start()
    while not (tmp_path / "run.json").exists():
        time.sleep(0.001)
    run = open_run(tmp_path)
    steps = 0
    while not done.is_set():
        run.refresh()
        found = run.steps().tolist()
        assert found == list(range(len(found)))
        assert len(found) >= steps
        steps = len(found)
    thread.join()
    run.refresh()
    assert run.series("w")["mean"].tolist() == list(range(400))
    assert run.damaged == {}


def test_flush_makes_it_visible(tmp_path: Path) -> None:
    writer = RunWriter(tmp_path, flush_seconds=1000)
    writer.submit(record(0))
    assert writer.flush()
    run = open_run(tmp_path)
    assert run.steps().tolist() == [0]
    writer.submit(record(1))
    assert run.refresh() == 0
    assert writer.flush()
    assert run.refresh() == 2
    assert writer.close()


def test_segments_close_by_time(tmp_path: Path) -> None:
    writer = RunWriter(tmp_path, flush_seconds=0.05)
    writer.submit(record(0))
    deadline = time.monotonic() + 10
    while not list(tmp_path.glob("rank-*/*.tmz")):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    writer.close()


def test_any_url(rng: np.random.Generator) -> None:
    url = f"memory://runs/{rng.integers(1 << 60)}"
    write(url, range(5), flush_rows=2)
    write(url, range(5, 7))
    run = open_run(url)
    assert run.steps().tolist() == list(range(7))
    with pytest.raises(FileNotFoundError):
        open_run(url + "/missing")


def test_run_json_is_for_people(tmp_path: Path) -> None:
    write(tmp_path, range(1), config={"a": [1, 2]})
    about = json.loads((tmp_path / "run.json").read_text())
    assert set(about) == {"format", "created", "versions", "world_size", "config"}
    with pytest.raises(TypeError):
        RunWriter(tmp_path, config={"a": object()})


def test_histograms_that_are_damaged(tmp_path: Path) -> None:
    for value in (1.0, 2.0):
        writer = RunWriter(tmp_path)
        table = tensometer.summarize_many([np.full(100, value)], histogram=True)
        writer.submit(Record(int(value), 0.0, "train", [TensorKey("x", "custom", "float64", (100,))], table))
        assert writer.close()
    path = tmp_path / "rank-00000" / "000000000.tmz"
    damaged = bytearray(path.read_bytes())
    damaged[-5] ^= 1
    path.write_bytes(damaged)
    run = open_run(tmp_path)
    series = run.series("x")
    assert series["mean"].tolist() == [1, 2]
    with pytest.warns(RuntimeWarning, match=r"rank-00000/000000000\.tmz: is damaged"):
        assert series.histogram(0) is None
    histogram = series.histogram(1)
    assert histogram is not None
    assert histogram.total == 100
    assert list(run.damaged) == ["rank-00000/000000000.tmz"]
    assert series.histograms()[0].sum(axis=1).tolist() == [0, 100]


def test_a_segment_that_cannot_be_fetched_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, range(3), flush_rows=1)
    place = store.open_place(tmp_path)
    read = type(place).read
    broken = {"rank-00000/000000001.tmz"}

    def sometimes(self: Any, name: str) -> bytes:
        if name in broken:
            raise ConnectionError("reset by peer")
        return read(self, name)

    monkeypatch.setattr(type(place), "read", sometimes)
    with pytest.warns(RuntimeWarning, match="reset by peer"):
        run = open_run(tmp_path)
    assert run.refresh() == 0  # and no second warning, which would be an error
    assert run.series("w").steps.tolist() == [0, 2]
    assert list(run.damaged) == list(broken)
    broken.clear()
    assert run.refresh() == 2
    assert run.series("w").steps.tolist() == [0, 1, 2]
    assert run.damaged == {}
    assert run.ended


def test_a_place_that_cannot_be_listed_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, range(2))
    run = open_run(tmp_path)
    write(tmp_path, range(2, 4))
    kind = type(store.open_place(tmp_path))
    names = kind.names

    def fails(self: Any, folder: str = "") -> list[str]:
        raise ConnectionError("reset by peer")

    for _ in range(2):
        monkeypatch.setattr(kind, "names", fails)
        with pytest.warns(RuntimeWarning, match="cannot be listed: ConnectionError: reset by peer"):
            assert run.refresh() == 0
        assert run.refresh() == 0  # and no second warning, which would be an error
        with pytest.raises(ConnectionError):
            open_run(tmp_path)
        monkeypatch.setattr(kind, "names", names)
        run.refresh()
        assert run.steps().tolist() == [0, 1, 2, 3]


def test_a_run_that_is_let_go_leaves_memory(tmp_path: Path) -> None:
    write(tmp_path, range(3))
    run = open_run(tmp_path)
    assert run.series("w").histogram(0) is not None
    assert len(run.table()) == 6
    gone = weakref.ref(run)
    gc.disable()
    try:
        del run
        assert gone() is None
    finally:
        gc.enable()
