"""Settings of a monitor: from a file, from the environment, changed while it trains; and when collections are due."""

import os
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensometer
from tensometer import Monitor, open_run
from tensometer.capture.cadence import Cadence
from tensometer.capture.config import DEFAULT_COLLECTIONS, CollectionConfig, MonitorConfig
from tensometer.names import COLLECTIONS


def steps_of(config: MonitorConfig, collection: str, count: int = 30) -> list[int]:
    cadence = Cadence(config)
    found = []
    for step in range(count):
        due = cadence.due(step, 0.1 * step)
        cadence.passed(due, 0.1 * step)
        found += [step] if collection in due else []
    return found


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


def test_the_first_steps_are_all_captured_where_nothing_says_otherwise() -> None:
    config = MonitorConfig.from_dict({"start": 2, "dense": 3, "collections": {"weights": {"every": 9}}})
    assert steps_of(config, "losses") == [2, 3, 4, 12, 22]
    assert steps_of(config, "weights") == [2, 11, 20, 29]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"rules": True}, 500),
        ({"rules": True, "dense": 0}, 0),
        ({"rules": True, "every": 10}, None),
        ({"rules": True, "config": {"every": 3}}, None),
        ({"rules": True, "config": {"start": 3}}, 500),
        ({"rules": True, "config": MonitorConfig()}, None),
        ({"rules": True, "widen": False}, None),
        ({"rules": []}, None),
        ({}, None),
        ({"on_finding": print}, 500),
    ],
)
def test_rules_see_the_first_steps_unless_somebody_says_how_many(
    tmp_path: Path, settings: dict[str, Any], expected: int | None
) -> None:
    with Monitor(tmp_path, **settings) as monitor:
        assert monitor.config.dense == expected


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


def test_each_mistake_in_the_file_is_told(tmp_path: Path) -> None:
    path = tmp_path / "monitor.toml"
    path.write_text("every = 2", "utf-8")
    with Monitor(tmp_path / "run", config=path) as monitor:
        with pytest.warns(RuntimeWarning, match="could not be captured"):
            monitor.step(loss="none")
        for wrong in ("evry = 1", "every = 0"):
            edit(path, wrong)
            with pytest.warns(RuntimeWarning, match=wrong.partition(" ")[0]):
                monitor.step()
    assert len(open_run(tmp_path / "run").events("problem")) == 3


def test_what_cannot_follow_is_told(tmp_path: Path) -> None:
    path = tmp_path / "monitor.toml"
    path.write_text("every = 2", "utf-8")
    with Monitor(tmp_path / "run", config=path) as monitor:
        edit(path, "every = 3\nclipping = true\nflush_seconds = 9.0")
        with pytest.warns(RuntimeWarning, match="flush_seconds, clipping: cannot change while training runs"):
            monitor.step()
        assert (monitor.config.every, monitor.config.clipping, monitor.config.flush_seconds) == (3, False, 5.0)
    run = open_run(tmp_path / "run")
    assert len(run.events("problem")) == 1
    assert run.events("config")[0].data["clipping"] is False


def test_the_flight_recorder_follows(tmp_path: Path) -> None:
    path = tmp_path / "monitor.toml"
    path.write_text("every = 100", "utf-8")
    before = signal.getsignal(signal.SIGTERM)
    with Monitor(tmp_path / "run", config=path) as monitor:
        for lengths in (3, 0, 2):
            edit(path, f"every = 100\nrecorder = {lengths}")
            for _ in range(5):
                monitor.step(loss=1.0)
            assert (signal.getsignal(signal.SIGTERM) != before) is (lengths > 0)
        monitor.dump()
    assert open_run(tmp_path / "run").series("loss").steps.tolist() == [0, 13, 14]


def test_a_step_that_is_numbered_anew_is_captured_by_time(tmp_path: Path) -> None:
    with Monitor(tmp_path, collections={"losses": {"seconds": 1000}}) as monitor:
        monitor.resume_at(np.int64(7))
        monitor.step(loss=1.0)
        monitor.step(loss=1.0)
    assert open_run(tmp_path).series("loss").steps.tolist() == [7]


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"strict": "yes"}, ValueError, "strict: 'yes' is not True or False"),
        ({"rank": "0"}, TypeError, "rank: '0' is not a whole number"),
        ({"rank": True}, TypeError, "rank: True is not a whole number"),
        ({"world_size": "2"}, TypeError, "world_size: '2' is not a whole number"),
        ({"start": 5, "stop": 3}, ValueError, "start: 5 is behind stop, 3"),
        ({"stop": 3, "collections": {"weights": {"start": 5}}}, ValueError, "collections.weights.start: 5 is behind"),
        ({"collections": [["a"]]}, TypeError, r"collections: \['a'\] is not a text"),
        ({"collections": {5: True}}, TypeError, "collections: 5 is not a text"),
        ({"collections": {"weights": {"steps": [True]}}}, TypeError, "steps: True is not a whole number"),
        ({"collections": {"weights": {"steps": [-3]}}}, ValueError, "weights.steps: -3 is less than 0"),
        ({"collections": {"losses": {"statistics": ["l2"]}}}, ValueError, "statistics: cannot be chosen: one pass"),
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


@pytest.mark.parametrize(
    ("collections", "message"),
    [
        (["losses"], r"collections: \['losses'\] is not a mapping .* MonitorConfig.from_dict"),
        ({"weights": True}, "collections.weights: True is not a CollectionConfig"),
    ],
)
def test_what_only_plain_values_may_say(collections: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        tensometer.MonitorConfig(collections=collections)


def test_a_rank_that_is_no_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "first")
    with pytest.warns(RuntimeWarning, match="RANK='first' is no number, and is ignored"):
        Monitor(tmp_path).close()
