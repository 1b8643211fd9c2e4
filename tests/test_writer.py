"""The thread that stores: places that fail, what waits for them, what cannot be encoded, the end of a process."""

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensometer
from run_records import record
from tensometer import store
from tensometer.store import Record, RunWriter, TensorKey, decode_segment, open_run


class Failing:
    """A place that takes nothing for a while."""

    url = "failing://"

    def __init__(self, failures: int) -> None:
        self.failures = failures
        self.files: dict[str, bytes] = {}

    def read(self, name: str) -> bytes:
        return self.files[name]

    def write(self, name: str, data: bytes, *, replace: bool = False) -> None:
        if self.failures:
            self.failures -= 1
            raise ConnectionError("refused")
        if name in self.files and not replace:
            raise FileExistsError(name)
        self.files[name] = data

    def names(self, folder: str = "") -> list[str]:
        return [name.rpartition("/")[2] for name in self.files if name.startswith(folder)]


def wait_for_a_problem(writer: RunWriter) -> None:
    deadline = time.monotonic() + 10
    while not writer.problems:
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_a_place_that_comes_back_loses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    place = Failing(3)
    monkeypatch.setattr(store.writer, "open_place", lambda _: place)
    writer = RunWriter("failing://", flush_rows=1)
    wait_for_a_problem(writer)
    with pytest.warns(RuntimeWarning, match="could not be stored: ConnectionError: refused; training goes on"):
        writer.submit(record(0))
    for step in range(1, 5):
        writer.submit(record(step))
    assert writer.close()
    assert writer.dropped == 0
    assert len(place.files) == 7  # run.json, five records, the end
    assert len(writer.problems) == 1


def test_a_place_that_stays_away_costs_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store.writer, "open_place", lambda _: Failing(10**9))
    writer = RunWriter("failing://", flush_rows=1, queue_bytes=10_000)

    def training() -> None:
        for step in range(50):
            begin = time.perf_counter()
            writer.submit(record(step))
            assert time.perf_counter() - begin < 0.1
            time.sleep(0.002)

    with pytest.warns(RuntimeWarning, match="training goes on"):
        training()
    assert 0 < writer.dropped < 100
    assert not writer.close(timeout=0.2)
    assert writer.dropped == 100
    writer.submit(record(99))
    assert writer.dropped == 102


@pytest.mark.parametrize("histogram", [False, True])
def test_what_waits_is_bounded_in_bytes(monkeypatch: pytest.MonkeyPatch, histogram: bool) -> None:
    """Rows weigh what they take, with their histograms."""
    table = tensometer.summarize_many([np.exp2(np.arange(1000) / 8)] * 2, histogram=histogram, resolution=3)
    assert (table.nbytes > 20_000) is histogram
    monkeypatch.setattr(store.writer, "open_place", lambda _: Failing(10**9))
    writer = RunWriter("failing://", queue_bytes=50 * table.nbytes)
    wait_for_a_problem(writer)
    keys = [TensorKey(name, "weights", "float64", (1000,)) for name in "ab"]

    def training() -> None:
        for step in range(100):
            writer.submit(Record(step, 0.0, "train", keys, table))

    with pytest.warns(RuntimeWarning, match="refused"):
        training()
    assert writer.dropped == 100
    writer.close(timeout=0.0)


def test_a_place_that_refuses_for_good_is_told_at_once_and_not_waited_for(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    writer = RunWriter(tmp_path / "file" / "run")
    wait_for_a_problem(writer)  # before anything is submitted
    with pytest.warns(RuntimeWarning, match="NotADirectoryError"):
        writer.submit(record(0))
    begin = time.monotonic()
    assert not writer.close(timeout=30)
    assert time.monotonic() - begin < 3
    assert writer.dropped == 2


def test_a_place_that_refuses_is_tried_again(tmp_path: Path) -> None:
    blocking = tmp_path / "file"
    blocking.write_text("")
    writer = RunWriter(blocking / "run")
    wait_for_a_problem(writer)
    with pytest.warns(RuntimeWarning, match="NotADirectoryError"):
        writer.submit(record(0))
    blocking.unlink()
    assert writer.close()
    assert open_run(blocking / "run").steps().tolist() == [0]


def test_a_run_is_there_as_soon_as_its_writer(tmp_path: Path) -> None:
    writer = RunWriter(tmp_path, flush_seconds=1000)
    writer.submit(record(0))
    deadline = time.monotonic() + 10
    while not (tmp_path / "run.json").exists():
        assert time.monotonic() < deadline
        time.sleep(0.001)
    run = open_run(tmp_path)
    assert (run.steps().tolist(), run.ranks, run.ended) == ([], [], False)
    assert len(run.table()) == 0
    writer.close()
    assert run.refresh() == 2
    assert run.ended


def test_records_that_are_submitted_together_are_stored_together(tmp_path: Path) -> None:
    writer = RunWriter(tmp_path, flush_rows=3)
    for step in range(20):
        writer.submit(record(step), record(step, phase="eval"))
    writer.submit()
    assert writer.close()
    assert writer.dropped == 0
    segments = [decode_segment(path.read_bytes()) for path in sorted(tmp_path.glob("rank-00000/*.tmz"))]
    steps = [set(segment.columns["step"].tolist()) for segment in segments if segment.rows]
    assert len(steps) > 1
    assert sum(map(len, steps)) == len(set().union(*steps)) == 20


def test_a_record_that_cannot_be_encoded_takes_no_other_with_it(tmp_path: Path) -> None:
    writer = RunWriter(tmp_path, flush_seconds=1000)
    table = tensometer.summarize_many([np.ones(3)])
    for step in range(5):
        writer.submit(record(step))
        if step == 2:
            shape: Any = (object(),)  # no JSON
            writer.submit(Record(step, 0.0, "train", [TensorKey("x", "custom", "float64", shape)], table))
            writer.event(step, 0.0, "note", {"a": 1})
    with pytest.warns(RuntimeWarning, match="summaries could not be encoded: TypeError: .*; training goes on"):
        assert writer.close()
    assert writer.dropped == 1
    run = open_run(tmp_path)
    assert [key.name for key in run.tensors()] == ["w", "b"]
    assert run.series("w").steps.tolist() == [0, 1, 2, 3, 4]
    assert [event.kind for event in run.events()] == ["note", "end"]


def test_a_raw_tensor_that_cannot_be_encoded_holds_nothing_up(tmp_path: Path) -> None:
    writer = RunWriter(tmp_path, flush_seconds=1000)
    shape: Any = (np.int64(2),)  # JSON knows none of NumPy's numbers
    writer.raw(0, 0.0, "train", TensorKey("x", "custom", "uint8", shape), b"ab")
    writer.raw(0, 0.0, "train", TensorKey("y", "custom", "uint8", (2,)), b"cd")
    writer.submit(record(0))
    with pytest.warns(RuntimeWarning, match="x could not be encoded: TypeError"):
        assert writer.close()
    assert writer.dropped == 1
    run = open_run(tmp_path)
    assert bytes(run.tensor("y", 0)) == b"cd"
    assert run.steps().tolist() == [0]


def test_ranks_that_are_none(tmp_path: Path) -> None:
    for options, kind, sentence in (
        ({"rank": "0"}, TypeError, "rank: '0' is not a whole number"),
        ({"rank": True, "world_size": 2}, TypeError, "rank: True is not a whole number"),
        ({"world_size": 1.0}, TypeError, "world_size: 1.0 is not a whole number"),
        ({"world_size": 0}, ValueError, "world_size: 0 is not from 1 to 100000"),
        ({"rank": 100_000, "world_size": 100_001}, ValueError, "world_size: 100001 is not from 1 to 100000"),
        ({"rank": 2, "world_size": 2}, ValueError, "rank: 2 is not from 0 to 1"),
        ({"rank": -1}, ValueError, "rank: -1 is not from 0 to 0"),
    ):
        with pytest.raises(kind, match=sentence):
            RunWriter(tmp_path, **options)  # type: ignore[arg-type]
    writer = RunWriter(tmp_path, rank=np.int64(99_999), world_size=np.int64(100_000))  # type: ignore[arg-type]
    writer.submit(record(0))
    assert writer.close()
    assert open_run(tmp_path).ranks == [99_999]


@pytest.mark.filterwarnings("ignore")  # of a process with threads that forks
def test_the_child_of_a_fork_writes_nothing(tmp_path: Path) -> None:
    writer = RunWriter(tmp_path)
    writer.submit(record(0))
    child = os.fork()
    if child == 0:
        writer.submit(record(1))
        os._exit(0 if not writer.close() else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert writer.close()
    assert open_run(tmp_path).steps().tolist() == [0]


def test_an_interpreter_that_ends_flushes(tmp_path: Path) -> None:
    program = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from run_records import RunWriter, record
writer = RunWriter({str(tmp_path)!r}, flush_seconds=1000)
for step in range(3):
    writer.submit(record(step))
"""
    subprocess.run([sys.executable, "-c", program], check=True)
    assert open_run(tmp_path).steps().tolist() == [0, 1, 2]
