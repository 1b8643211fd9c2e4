"""Settings of a monitor: from a file, from the environment, changed while it trains; and when collections are due."""

import os
import time
from pathlib import Path
from typing import Any

import pytest
from tensometer import Monitor, open_run
from tensometer.capture.cadence import Cadence
from tensometer.capture.config import COLLECTIONS, DEFAULT_COLLECTIONS, CollectionConfig, MonitorConfig


def steps_of(config: MonitorConfig, collection: str, count: int = 30) -> list[int]:
    cadence = Cadence(config)
    return [step for step in range(count) if collection in cadence.due(step, 0.1 * step)]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, [0, 10, 20]),
        ({"every": 7}, [0, 7, 14, 21, 28]),
        ({"start": 4, "stop": 25}, [4, 14, 24]),
        ({"steps": [3, 29, 99]}, [3, 29]),
        ({"seconds": 1.05}, [0, 11, 22]),
        ({"seconds": 0.55, "start": 3, "stop": 20}, [3, 9, 15]),
    ],
)
def test_when_a_collection_is_due(settings: dict[str, Any], expected: list[int]) -> None:
    config = MonitorConfig.from_dict({"collections": {"weights": settings}})
    assert steps_of(config, "weights") == expected
    assert steps_of(config, "losses") == [0, 10, 20]


def test_a_mapping_changes_the_defaults_and_a_list_replaces_them() -> None:
    changed = MonitorConfig.from_dict({"collections": {"activations": True, "weights": False}})
    assert set(changed.collections) == {*DEFAULT_COLLECTIONS, "activations"} - {"weights"}
    assert set(MonitorConfig.from_dict({"collections": ["labels"]}).collections) == {"labels"}
    assert MonitorConfig().collections == MonitorConfig.from_dict({}).collections
    assert changed.collections["buffers"].include == "running_"


def test_plain_values_and_back() -> None:
    collections = {"weights": {"steps": [1, 2], "units": True}, "labels": False}
    settings = {"every": 3, "recorder": 5, "collections": collections}
    config = MonitorConfig.from_dict(settings)
    assert MonitorConfig.from_dict(config.to_dict()) == config
    assert list(config.to_dict()["collections"]) == list(COLLECTIONS)


def test_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "monitor.toml"
    path.write_text('every = 2\n[collections]\nmetrics = false\n[collections.losses]\nphases = ["train"]\n', "utf-8")
    with Monitor(tmp_path / "a", config=path, start=1) as monitor:
        assert (monitor.config.every, monitor.config.start) == (2, 1)
        assert monitor.config.collections["losses"] == CollectionConfig(phases=("train",))
    monkeypatch.setenv("TENSOMETER_CONFIG", str(path))
    with Monitor(tmp_path / "b") as monitor:
        assert monitor.config.every == 2
    with Monitor(tmp_path / "c", config={}) as monitor:
        assert monitor.config.every == 10
    monkeypatch.setenv("TENSOMETER_CONFIG", str(tmp_path / "missing.toml"))
    with pytest.raises(FileNotFoundError, match=r"missing\.toml"):
        Monitor(tmp_path / "d")
    assert not (tmp_path / "d").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("every = ", "monitor.toml: Invalid value"),
        ("evry = 3", "monitor.toml: config: 'evry' is unknown; did you mean 'every'?"),
        ("[collections.wieghts]", "monitor.toml: .*'wieghts' is unknown; did you mean 'weights'?"),
        ("[collections.weights]\nevery = 0", "monitor.toml: collections.weights.every: 0 is less than 1"),
    ],
)
def test_wrong_files(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "monitor.toml"
    path.write_text(text, "utf-8")
    with pytest.raises(ValueError, match=message):
        Monitor(tmp_path / "run", config=path)
    assert not (tmp_path / "run").exists()


def edit(path: Path, text: str) -> None:
    path.write_text(text, "utf-8")
    # Two edits within the clock's tick would look like one.
    os.utime(path, ns=(time.time_ns(), path.stat().st_mtime_ns + 1_000_000))


def test_a_file_that_is_edited_while_training(tmp_path: Path) -> None:
    path = tmp_path / "monitor.toml"
    path.write_text("every = 1", "utf-8")
    with Monitor(tmp_path / "run", config=path) as monitor:
        for step in range(12):
            if step == 4:
                edit(path, "every = 3")
            if step == 8:
                path.unlink()
            monitor.step(loss=1.0)
    run = open_run(tmp_path / "run")
    assert run.series("loss").steps.tolist() == [0, 1, 2, 3, 4, 6, 9]
    (event,) = run.events("config")
    assert (event.step, event.data["every"]) == (5, 3)


def test_an_edit_that_is_wrong_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "monitor.toml"
    path.write_text("every = 2", "utf-8")
    with Monitor(tmp_path / "run", config=path) as monitor:
        monitor.step(loss=1.0)
        edit(path, "every = 'often'")
        with pytest.warns(RuntimeWarning, match=r"monitor.toml: every: 'often' is not a whole number"):
            monitor.step(loss=1.0)
        monitor.step(loss=1.0)
    run = open_run(tmp_path / "run")
    assert run.series("loss").steps.tolist() == [0, 2]
    assert "often" in run.events("problem")[0].data["error"]


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"collections": {"weights": {"every": 2, "steps": [1]}}}, ValueError, "every, steps, seconds: only one"),
        ({"collections": {"weights": {"steps": 3}}}, TypeError, "weights.steps: 3 is not a list of whole numbers"),
        ({"collections": {"weights": {"phases": "train"}}}, TypeError, "phases: 'train' is not a list of texts"),
        ({"collections": {"weights": {"seconds": -1}}}, ValueError, "seconds: -1 is not a positive number of seconds"),
        ({"collections": {"weights": {"save": "all"}}}, ValueError, "save: 'all' is not 'summary' or 'raw'"),
        ({"collections": {"weights": {"resolution": 8}}}, ValueError, "resolution: 8 is more than 7"),
        ({"clipping": 1}, ValueError, "clipping: 1 is not True or False"),
        ({"recorder": -1}, ValueError, "recorder: -1 is less than 0"),
        ({"flush_seconds": float("nan")}, ValueError, "flush_seconds: nan is not a positive"),
        ({"config": 3}, TypeError, "config: 3 is neither a MonitorConfig, a mapping, nor the path of a file"),
    ],
)
def test_wrong_settings(tmp_path: Path, settings: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        Monitor(tmp_path / "run", **settings)
    assert not (tmp_path / "run").exists()


def test_a_rank_that_is_no_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "first")
    with pytest.warns(RuntimeWarning, match="RANK='first' is no number, and is ignored"):
        Monitor(tmp_path).close()
