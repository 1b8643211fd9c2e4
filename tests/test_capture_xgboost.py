"""The callback for XGBoost: what it records is what the booster says of itself, and boosting does not feel it."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensometer
import xgboost
from tensometer import Monitor, open_run
from tensometer.capture.xgboost import MonitorCallback, record_booster

FEATURES = ["height", "width", "unused", "weight"]
GENERATOR = np.random.default_rng(0)
DATA = GENERATOR.normal(size=(300, 4))
DATA[:, 2] = 1.0  # a constant, on which no tree can split
CLASSES = (DATA[:, 0] > 0).astype(int) + (DATA[:, 1] + DATA[:, 3] > 0.5)
BINARY = {"objective": "binary:logistic", "max_depth": 3, "eval_metric": ["logloss", "error"], "nthread": 1}
MULTI = {"objective": "multi:softprob", "num_class": 3, "max_depth": 3, "nthread": 1, "num_parallel_tree": 2}


def matrices(labels: Any, **settings: Any) -> tuple[xgboost.DMatrix, xgboost.DMatrix]:
    train = xgboost.DMatrix(DATA[:200], labels[:200], feature_names=FEATURES, nthread=1, **settings)
    return train, xgboost.DMatrix(DATA[200:], labels[200:], feature_names=FEATURES, nthread=1, **settings)


def boost(parameters: dict[str, Any], labels: Any, callback: Any = None, rounds: int = 5, **more: Any) -> Any:
    train, validation = matrices(labels)
    return xgboost.train(
        parameters,
        train,
        rounds,
        evals=[(train, "train"), (validation, "validation")],
        callbacks=[callback] if callback else [],
        verbose_eval=False,
        **more,
    )


def shape_of(node: dict[str, Any]) -> tuple[int, int]:
    """Depth and leaves of a tree in XGBoost's own dump."""
    if "leaf" in node:
        return 0, 1
    shapes = [shape_of(child) for child in node["children"]]
    return 1 + max(depth for depth, _ in shapes), sum(leaves for _, leaves in shapes)


def shapes_of_round(booster: Any, number: int, trees: int) -> tuple[list[int], list[int]]:
    dump = booster.get_dump(dump_format="json")[number * trees : (number + 1) * trees]
    depths, leaves = zip(*(shape_of(json.loads(tree)) for tree in dump), strict=True)
    return list(depths), list(leaves)


def assert_row(run: tensometer.Run, name: str, row: int, expected: Any) -> None:
    """The row is the summary of that array, bit for bit."""
    series, summary = run.series(name), tensometer.summarize(np.asarray(expected))
    for statistic in ("count", "zeros", "min", "max", "mean", "var", "l2"):
        assert series[statistic][row] == getattr(summary, statistic), (name, statistic)


@pytest.mark.parametrize(("parameters", "trees"), [(BINARY, 1), (MULTI, 6), ({**MULTI, "booster": "dart"}, 6)])
def test_trees_importances_and_predictions(tmp_path: Path, parameters: dict[str, Any], trees: int) -> None:
    labels = CLASSES if trees == 6 else CLASSES > 0
    validation = matrices(labels)[1]
    callback = MonitorCallback(tmp_path, evals=[(validation, "validation")], every=1, strict=True)
    booster = boost({"gamma": 0.5, **parameters}, labels, callback)
    run = open_run(tmp_path)
    assert run.steps().tolist() == [0, 1, 2, 3, 4]
    for number in range(5):
        depths, leaves = shapes_of_round(booster, number, trees)
        assert_row(run, "tree_depth", number, np.array(depths, np.int32))
        assert_row(run, "tree_leaves", number, np.array(leaves, np.int32))
    assert run.series("tree_depth").key.shape == (trees,)
    for kind in ("gain", "cover", "weight"):
        scores = booster.get_score(importance_type=kind)
        assert_row(run, f"feature_importance/{kind}", 4, [scores.get(name, 0.0) for name in FEATURES])
        assert run.series(f"feature_importance/{kind}")["zeros"][4] == 1
    assert_row(run, "predictions/validation", 4, booster.predict(validation))
    assert_row(run, "labels/validation", 0, validation.get_label())
    keys = {key.name: key for key in run.tensors()}
    assert keys["predictions/validation"].collection == "predictions"
    assert keys["predictions/validation"].shape == ((100, 3) if trees == 6 else (100,))
    assert keys["labels/validation"].collection == "labels"
    assert keys["tree_depth"].collection == "custom"
    assert set(run.series("labels/validation").phases) == {"eval"}


def test_evaluation_metrics(tmp_path: Path) -> None:
    told: dict[str, Any] = {}
    boost(BINARY, CLASSES > 0, MonitorCallback(tmp_path, every=1, strict=True), evals_result=told)
    run = open_run(tmp_path)
    for matrix in ("train", "validation"):
        for metric, collection in (("logloss", "losses"), ("error", "metrics")):
            series = run.series(f"{matrix}-{metric}")
            assert series.key.collection == collection
            assert series["mean"].tolist() == told[matrix][metric]


def test_features_without_names_are_in_the_order_of_columns(tmp_path: Path) -> None:
    train = xgboost.DMatrix(DATA, CLASSES > 0)
    booster = xgboost.train(BINARY, train, 2)
    with Monitor(tmp_path, every=1, collections={"custom": {"save": "raw"}}, strict=True) as monitor:
        record_booster(monitor, booster)
        monitor.step()
    scores = booster.get_score(importance_type="weight")
    expected = [scores.get(f"f{column}", 0.0) for column in range(4)]
    assert open_run(tmp_path).series("feature_importance/weight")["l1"].tolist() == [sum(expected)]
    assert expected[2] == 0


def test_a_linear_booster_has_coefficients_and_no_trees(tmp_path: Path) -> None:
    parameters = {"booster": "gblinear", "objective": "binary:logistic", "nthread": 1, "updater": "coord_descent"}
    booster = boost(parameters, CLASSES > 0, MonitorCallback(tmp_path, every=1, strict=True))
    run = open_run(tmp_path)
    assert run.series("tree_depth")["count"].tolist() == [0] * 5
    assert run.series("feature_importance/gain")["count"].tolist() == [0] * 5
    coefficients = booster.get_score(importance_type="weight")
    assert_row(run, "feature_importance/weight", 4, [coefficients[name] for name in FEATURES])


@pytest.mark.parametrize("booster", ["gbtree", "dart"])
def test_boosting_is_not_changed(tmp_path: Path, booster: str) -> None:
    random = {"booster": booster, "subsample": 0.5, "colsample_bytree": 0.5, "seed": 3, "rate_drop": 0.3}
    parameters = MULTI | (random if booster == "dart" else {key: random[key] for key in list(random)[:4]})
    evals = [(matrix, name) for matrix, name in zip(matrices(CLASSES), ("a", "b"), strict=True)]
    callback = MonitorCallback(tmp_path, evals=evals, every=2)
    assert boost(parameters, CLASSES).save_raw("ubj") == boost(parameters, CLASSES, callback).save_raw("ubj")
    assert open_run(tmp_path).series("predictions/a").steps.tolist() == [0, 2, 4]


def test_nothing_is_computed_in_steps_that_are_not_captured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    score = xgboost.Booster.get_score

    def counted(self: Any, **settings: Any) -> Any:
        calls.append(settings["importance_type"])
        return score(self, **settings)

    monkeypatch.setattr(xgboost.Booster, "get_score", counted)
    boost(BINARY, CLASSES > 0, MonitorCallback(tmp_path, every=4), rounds=6)
    assert calls == ["gain", "cover", "weight"] * 2


def test_training_that_goes_on_continues_the_run(tmp_path: Path) -> None:
    first = boost(BINARY, CLASSES > 0, MonitorCallback(tmp_path / "a", every=1, strict=True), rounds=3)
    boost(BINARY, CLASSES > 0, MonitorCallback(tmp_path / "a", every=1), rounds=2, xgb_model=first)
    assert open_run(tmp_path / "a").series("tree_depth").steps.tolist() == [0, 1, 2, 3, 4]
    # Into a run of its own too, steps are the booster's rounds.
    boost(BINARY, CLASSES > 0, MonitorCallback(tmp_path / "b", every=1), rounds=2, xgb_model=first)
    assert open_run(tmp_path / "b").series("tree_depth").steps.tolist() == [3, 4]


def test_cross_validation_records_its_metrics(tmp_path: Path) -> None:
    table = xgboost.cv(
        BINARY,
        matrices(CLASSES > 0)[0],
        3,
        nfold=2,
        as_pandas=False,
        callbacks=[MonitorCallback(tmp_path, every=1, strict=True)],
    )
    run = open_run(tmp_path)
    assert run.series("test-logloss")["mean"].tolist() == table["test-logloss-mean"]
    assert run.series("test-logloss-std")["mean"].tolist() == table["test-logloss-std"]


def test_a_monitor_of_the_caller_stays_open(tmp_path: Path) -> None:
    with Monitor(tmp_path, every=1, strict=True) as monitor:
        boost(BINARY, CLASSES > 0, MonitorCallback(monitor), rounds=2)
        assert monitor.current_step == 2
        monitor.step(extra=1.0)
    assert open_run(tmp_path).series("extra").steps.tolist() == [2]


def test_errors_are_one_warning_and_boosting_goes_on(tmp_path: Path) -> None:
    narrow = xgboost.DMatrix(DATA[:, :2], CLASSES > 0)
    plain = boost(BINARY, CLASSES > 0).save_raw("ubj")
    with pytest.warns(RuntimeWarning, match=r"step 0 could not be captured: .*training goes on") as caught:
        booster = boost(BINARY, CLASSES > 0, MonitorCallback(tmp_path / "a", evals=[(narrow, "narrow")], every=1))
    assert len(caught) == 1
    assert booster.save_raw("ubj") == plain
    assert open_run(tmp_path / "a").series("tree_depth").steps.tolist() == [0, 1, 2, 3, 4]
    strict = MonitorCallback(tmp_path / "b", evals=[(narrow, "narrow")], every=1, strict=True)
    with pytest.raises(ValueError, match="feature names"):
        boost(BINARY, CLASSES > 0, strict)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"monitor": 3}, TypeError, "monitor: 3 is neither a Monitor nor the path or URL of a run"),
        ({"evry": 3}, ValueError, "'evry' is unknown; did you mean 'every'?"),
        ({"evals": 3}, TypeError, "evals: 3 is not a list of pairs of a DMatrix and its name"),
        ({"evals": [(np.ones(3), "a")]}, TypeError, "is not a pair of a DMatrix and its name"),
        ({"rank": 3, "world_size": 2}, ValueError, "rank: 3 is not from 0 to 1"),
    ],
)
def test_wrong_arguments(tmp_path: Path, arguments: dict[str, Any], error: Any, message: str) -> None:
    with pytest.raises(error) as caught:
        MonitorCallback(**{"monitor": tmp_path / "run", **arguments})
    assert message in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_a_monitor_takes_no_settings(tmp_path: Path) -> None:
    with Monitor(tmp_path) as monitor, pytest.raises(TypeError, match="every= is one too many"):
        MonitorCallback(monitor, every=3)
