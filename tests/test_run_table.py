"""A run as one table: in memory, as data frames, as files that other programs query, and followed while it grows."""

import csv
import json
import re
import threading
import time
from pathlib import Path

import duckdb
import numpy as np
import polars
import pyarrow.parquet
import pytest
import tensometer
from commands import run
from tensometer import Monitor, open_run
from tensometer.store.table import STATISTICS

README = Path(__file__).resolve().parent.parent / "README.md"


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Two ranks, three steps, two collections, two phases; one number that is not finite."""
    for rank in (1, 0):
        with Monitor(tmp_path / "run", every=1, rank=rank, world_size=2, collections=["custom", "losses"]) as monitor:
            for step in range(3):
                monitor.record("x", np.full((2, 3), step + 10 * rank, np.float32))
                with monitor.phase("eval"):
                    monitor.record("y", np.array([np.nan, 1, 2]))
                monitor.step(loss=1 / (step + 1))
    return tmp_path / "run"


def test_columns(place: Path) -> None:
    table = open_run(place).table()
    about = ["rank", "step", "time", "phase", "name", "collection", "dtype", "shape"]
    assert table.columns == [*about, *STATISTICS]
    assert len(table) == 18
    assert table["rank"].tolist() == [0] * 9 + [1] * 9
    assert table["step"].tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2] * 2
    assert table["name"].tolist() == ["x", "y", "loss"] * 6
    assert table["collection"].tolist() == ["custom", "custom", "losses"] * 6
    assert table["phase"].tolist() == ["train", "eval", "train"] * 6
    assert table["shape"].tolist() == ["2x3", "3", ""] * 6
    assert table["dtype"].tolist() == ["float32", "float64", "float64"] * 6
    assert table["mean"].tolist()[:3] == [0, 1.5, 1]
    assert table["nan"].tolist() == [0, 1, 0] * 6
    with pytest.raises(KeyError, match="'l7' is no column; there are rank, step"):
        table["l7"]
    assert repr(table).startswith("<tensometer.Table of 18 rows: rank, step")


def test_a_part(place: Path) -> None:
    run = open_run(place)
    table = run.table(collection="custom", regex="^x", rank=1, statistics=["max", "count"])
    assert table.columns[-2:] == ["max", "count"]
    assert table["max"].tolist() == [10, 11, 12]
    assert len(run.table(phase="eval")) == 6
    # What the settings let expect is empty; what nobody knows is a mistake.
    assert run.table(collection="losses", phase="eval").to_numpy()["name"].shape == (0,)
    for wrong, sentence in (
        ({"phase": "evl"}, "phase: 'evl' is not in the run; the nearest are eval"),
        ({"rank": 7}, "rank: 7 is not in the run; there are 0, 1"),
        ({"collection": "loses"}, "collection: 'loses' is not in the run; the nearest are losses"),
    ):
        with pytest.raises(KeyError, match=sentence):
            run.table(**wrong)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="statistic: 'l7' is unknown"):
        run.table(statistics=["l7"])


def test_data_frames(place: Path) -> None:
    table = open_run(place).table()
    arrays = table.to_numpy()
    frame, arrow, pola = table.to_pandas(), table.to_arrow(), table.to_polars()
    for column in table.columns:
        expected = arrays[column].tolist()
        for found in (frame[column].tolist(), arrow[column].to_pylist(), pola[column].to_list()):
            np.testing.assert_equal(found, expected)
    assert str(frame["name"].dtype) == "category"
    assert pola["name"].dtype == polars.Categorical
    assert frame.groupby("name", observed=True)["max"].max()["x"] == 12


def test_parquet(place: Path, tmp_path: Path) -> None:
    assert run("export", place, "--to", "parquet", "--output", tmp_path / "x.parquet").returncode == 0
    found = pyarrow.parquet.read_table(tmp_path / "x.parquet")
    expected = open_run(place).table()
    for column in expected.columns:
        np.testing.assert_equal(found[column].to_pylist(), expected[column].tolist())
    found = duckdb.sql(f"select avg(max) from '{tmp_path}/x.parquet' where name = 'x' and rank = 1").fetchall()
    assert found == [(11,)]


def test_csv_and_json(place: Path) -> None:
    expected = open_run(place).table(statistics=["mean", "nan"])
    options = ("--statistics", "mean,nan")
    texts = [run("export", place, "--to", form, *options).stdout.splitlines() for form in ("csv", "jsonl")]
    rows, lines = list(csv.DictReader(texts[0])), list(map(json.loads, texts[1]))
    assert len(rows) == len(lines) == 18
    for column in expected.columns:
        values = expected[column].tolist()
        assert [row[column] for row in rows] == [str(value) for value in values]
        assert [line[column] for line in lines] == values
    assert run("export", place, "--to", "jsonl", "--filter", "y", "--statistics", "min").stdout.count("null") == 0
    eval_rows = run("export", place, "--to", "csv", "--phase", "eval", "--rank", "1", "--collection", "custom").stdout
    assert len(eval_rows.splitlines()) == 4


def test_what_is_not_finite_is_null_in_json(tmp_path: Path) -> None:
    with Monitor(tmp_path, every=1) as monitor:
        monitor.record("x", np.full(3, np.inf))
        monitor.step()
    line = json.loads(run("export", tmp_path, "--to", "jsonl", "--filter", "^x").stdout)
    assert (line["min"], line["posinf"]) == (None, 3)


def test_large_runs_are_exported_a_segment_at_a_time(place: Path, tmp_path: Path) -> None:
    for _ in range(3):
        with Monitor(place, every=1) as monitor:
            monitor.step(loss=1.0)
    assert run("export", place, "--to", "parquet", "-o", tmp_path / "x.parquet").returncode == 0
    file = pyarrow.parquet.ParquetFile(tmp_path / "x.parquet")
    assert file.num_row_groups == 5
    assert file.metadata.num_rows == len(open_run(place).table())


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["missing", "--to", "csv"], "missing: there is no run here (no run.json)"),
        (["{run}", "--to", "xls"], "invalid choice: 'xls'"),
        (["{run}"], "the following arguments are required: --to"),
        (["{run}", "--to", "csv", "--filter", "zzz"], "nothing was recorded that was asked for"),
        (["{run}", "--to", "csv", "--filter", "("], "regex: '(' is not a regular expression"),
        (["{run}", "--to", "csv", "--statistics", "l7"], "statistic: 'l7' is unknown"),
        (["{run}", "--to", "csv", "-o", "missing/x.csv"], "--output missing/x.csv: there is no folder missing"),
    ],
)
def test_bad_input(place: Path, arguments: list[str], sentence: str) -> None:
    result = run("export", *[str(place) if argument == "{run}" else argument for argument in arguments])
    assert (result.returncode, result.stdout) == (2, "")
    assert sentence in result.stderr
    assert "Traceback" not in result.stderr


def test_a_failed_export_leaves_nothing(place: Path, tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("earlier")
    assert run("export", place, "--to", "csv", "--statistics", "l7", "-o", tmp_path / "x.csv").returncode == 2
    assert (tmp_path / "x.csv").read_text() == "earlier"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run", "x.csv"]


def test_follow_a_run_that_ended(place: Path) -> None:
    run = open_run(place)
    assert run.ended
    assert list(run.follow()) == [0, 1, 2]


def test_follow_a_run_that_is_written(tmp_path: Path) -> None:
    monitor = Monitor(tmp_path, every=2, flush_seconds=0.02)
    monitor.step(loss=0.0)
    assert monitor.flush()
    go = threading.Event()

    def train() -> None:
        go.wait(10)
        for step in range(1, 30):
            monitor.step(loss=float(step))
            time.sleep(0.01)
        monitor.close()

    thread = threading.Thread(target=train)
    thread.start()
    run = open_run(tmp_path)
    assert not run.ended
    go.set()
    seen = []
    for step in run.follow(poll=0.01, timeout=10):
        assert run.series("loss")["mean"][run.series("loss").steps == step] == [step]
        seen.append(step)
    thread.join()
    assert seen == list(range(0, 30, 2))
    assert run.ended


def test_follow_stops_without_news(tmp_path: Path) -> None:
    monitor = Monitor(tmp_path, every=1)
    for step in range(3):
        monitor.step(loss=float(step))
    assert monitor.flush()
    assert list(open_run(tmp_path).follow(poll=0.01, timeout=0.05)) == [0, 1, 2]
    monitor.close()
    with Monitor(tmp_path, every=1) as again:
        run = open_run(tmp_path)
        assert run.ended
        again.step(loss=3.0)
        assert again.flush()
        run.refresh()
        assert not run.ended
    with pytest.raises(ValueError, match="poll, timeout: 0, None are no times to wait"):
        next(run.follow(poll=0))


def test_a_writer_that_has_not_begun_is_waited_for(tmp_path: Path) -> None:
    def rank(number: int, steps: int) -> None:
        with Monitor(tmp_path, every=1, rank=number, world_size=2) as monitor:
            for step in range(steps):
                monitor.step(loss=float(step))

    rank(0, 3)
    run = open_run(tmp_path)
    assert not run.ended
    following = threading.Thread(target=lambda: seen.extend(run.follow(poll=0.01, timeout=20)))
    seen: list[int] = []
    following.start()
    time.sleep(0.05)
    assert seen == []
    rank(1, 5)
    following.join()
    assert run.ended
    assert seen == [0, 1, 2, 3, 4]
    # Who wants what there is does not wait.
    with Monitor(tmp_path / "alone", every=1, rank=0, world_size=2) as monitor:
        monitor.step(loss=1.0)
    assert list(open_run(tmp_path / "alone").follow(poll=0.01, timeout=0.05)) == [0]


def test_events_are_listed(tmp_path: Path) -> None:
    with Monitor(tmp_path, every=1) as monitor:
        monitor.step(loss=float("nan"))
    assert run("ls", tmp_path).stdout.splitlines()[-1] == "events: 1 nonfinite"


def test_the_query_of_the_readme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It names the layer whose gradient grew most."""
    monkeypatch.chdir(tmp_path)
    with Monitor("runs/exp1", every=1, collections=["custom", "gradients"]) as monitor:
        for step in range(20):
            for layer, growth in (("quiet", 1.0), ("loud", 1.5)):
                monitor.record(f"{layer}.weight", np.full(4, growth**step), collection="gradients")
            monitor.step()
    assert run("export", "runs/exp1", "--to", "parquet", "-o", "exp1.parquet").returncode == 0
    (query,) = re.findall(r"```sql\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    rows = duckdb.sql(query).fetchall()
    assert [row[0] for row in rows] == ["loud.weight", "quiet.weight"]
    assert rows[0][1] == pytest.approx(1.5**18)
    assert rows[1][1] == 1


def test_statistics_are_those_of_summaries() -> None:
    assert all(hasattr(tensometer.summarize(np.ones(3)), statistic) for statistic in STATISTICS)
