"""TreeTooDeep, LowFeatureImportance, FeatureImportanceOverweight: on trainings with XGBoost, live and from disk."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xgboost
from rule_steps import Bench
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits
from tensometer import Monitor, open_run
from tensometer.capture.xgboost import MonitorCallback
from tensometer.replay import evaluate
from tensometer.rules import Finding, Rule, Severity
from tensometer.rules.feature_importance_overweight import FeatureImportanceOverweight
from tensometer.rules.low_feature_importance import LowFeatureImportance
from tensometer.rules.tree_too_deep import TreeTooDeep

OF_TREES = [TreeTooDeep, LowFeatureImportance, FeatureImportanceOverweight]


def noisy(rows: int = 1000) -> tuple[Any, Any]:
    generator = np.random.default_rng(0)
    x = generator.normal(size=(rows, 10))
    return x, x[:, 0] + np.sin(2 * x[:, 1]) + generator.normal(size=rows)


def boosted(
    path: Path, x: Any, y: Any, rounds: int = 15, rules: Any = OF_TREES, every: int = 1, **parameters: Any
) -> list[Finding]:
    """The findings while a booster is trained; those from disk are the same."""
    found: list[Finding] = []
    settings = {"every": every, "strict": True, "rules": rules, "on_finding": found.append}
    matrix = xgboost.DMatrix(x, y, nthread=1)
    xgboost.train({"nthread": 1, **parameters}, matrix, rounds, callbacks=[MonitorCallback(path, **settings)])
    assert evaluate(path, rules) == found
    return found


@pytest.mark.parametrize(
    ("data", "parameters"),
    [
        (load_breast_cancer, {"objective": "binary:logistic"}),
        (load_diabetes, {}),
        (load_digits, {"objective": "multi:softprob", "num_class": 10, "max_depth": 12}),
        (load_diabetes, {"max_depth": 0, "grow_policy": "lossguide", "max_leaves": 31}),
        (load_diabetes, {"max_depth": 1}),
    ],
)
def test_healthy_boosting_has_no_finding(tmp_path: Path, data: Any, parameters: dict[str, Any]) -> None:
    found = boosted(tmp_path, *data(return_X_y=True), rules=True, **parameters)
    assert [str(finding) for finding in found if finding.severity > Severity.INFO] == []
    (told,) = [finding.sentence for finding in found if finding.kind == "not_captured"]
    assert told == "not judged: LossNotDecreasing, LossSpike, Overfitting, Overtraining (the run has no losses)"


def test_deep_trees_on_noise(tmp_path: Path) -> None:
    (finding,) = boosted(tmp_path, *noisy(), max_depth=14)
    assert (finding.rule, finding.step, finding.tensor, finding.value) == ("TreeTooDeep", 2, "tree_depth", 14)
    assert finding.sentence.startswith("a tree of this round is 14 levels deep and has up to ")


def test_a_column_that_gives_the_label_away(tmp_path: Path) -> None:
    x, y = noisy()
    (finding,) = boosted(tmp_path, np.c_[x, y + 0.01 * np.random.default_rng(1).normal(size=len(y))], y)
    assert (finding.rule, finding.step) == ("FeatureImportanceOverweight", 4)
    assert "one feature has 9" in finding.sentence or "one feature has 100" in finding.sentence
    assert finding.sentence.endswith("the first is column 10")


def test_trees_that_split_on_nothing(tmp_path: Path) -> None:
    (finding,) = boosted(tmp_path, *noisy(), gamma=1e6)
    assert (finding.rule, finding.step, finding.kind) == ("LowFeatureImportance", 12, "none")
    assert finding.severity.label == "warning"


def test_rounds_count_that_are_not_captured(tmp_path: Path) -> None:
    (finding,) = boosted(tmp_path, *noisy(), rounds=100, gamma=1e6, every=10)
    assert (finding.rule, finding.step, finding.severity.label) == ("LowFeatureImportance", 30, "warning")


def test_many_unused_features_are_but_worth_knowing(tmp_path: Path) -> None:
    x, y = noisy()
    (finding,) = boosted(tmp_path, np.c_[x, np.zeros((len(x), 20))], y)
    assert (finding.rule, finding.kind, finding.severity.label) == ("LowFeatureImportance", "many", "info")


def test_errors_of_a_regression_are_losses(tmp_path: Path) -> None:
    x, y = noisy()
    held = (xgboost.DMatrix(x, np.random.default_rng(7).permutation(y), nthread=1), "validation")
    found: list[Finding] = []
    callback = MonitorCallback(tmp_path, every=1, strict=True, rules=True, on_finding=found.append)
    parameters = {"nthread": 1, "max_depth": 5, "eval_metric": ["mape", "rmse"]}
    xgboost.train(parameters, xgboost.DMatrix(x, y), 60, evals=[held], callbacks=[callback], verbose_eval=False)
    assert {"validation-rmse", "validation-mape"} == {key.name for key in open_run(tmp_path).tensors("losses")}
    assert not any("Overtraining" in finding.sentence for finding in found)  # not among those that are not judged


def test_deviations_between_folds_are_no_losses(tmp_path: Path) -> None:
    found: list[Finding] = []
    callback = MonitorCallback(tmp_path, every=1, strict=True, rules=True, on_finding=found.append)
    parameters = {"nthread": 1, "max_depth": 2, "eta": 0.1}
    matrix = xgboost.DMatrix(*load_diabetes(return_X_y=True), nthread=1)
    xgboost.cv(parameters, matrix, 60, nfold=5, metrics="rmse", callbacks=[callback])
    assert {key.name for key in open_run(tmp_path).tensors("losses")} == {"train-rmse", "test-rmse"}
    assert [str(finding) for finding in found if finding.severity > Severity.INFO] == []


def test_a_booster_recorded_by_hand(tmp_path: Path) -> None:
    x, y = noisy()
    matrix = xgboost.DMatrix(x, y, nthread=1)
    booster = xgboost.Booster({"max_depth": 14, "nthread": 1}, [matrix])
    with Monitor(tmp_path, every=1, strict=True, rules=OF_TREES) as monitor:
        for number in range(4):
            booster.update(matrix, number)
            monitor.record_booster(booster)
            monitor.step()
    assert [event.data["rule"] for event in open_run(tmp_path).events("finding")] == ["TreeTooDeep"]


def test_a_linear_booster_and_other_custom_tensors_are_not_judged(tmp_path: Path) -> None:
    assert boosted(tmp_path, *noisy(), booster="gblinear", updater="coord_descent") == []
    bench = Bench(*(rule() for rule in OF_TREES))
    assert bench.steps(20, custom={"depth": np.full(3, 50.0), "tree_depth": np.full(3, 50.0)}) == []


@pytest.mark.parametrize(("k", "share"), [(1, 0.5), (2, 0.8), (3, 0.95)])
def test_the_k_largest_are_summed(k: int, share: float) -> None:
    rows = {
        "feature_importance/gain": np.array([5.0, 3.0, 1.5, 0.5, 0.0]),
        "feature_importance/gain/largest": np.array([5.0, 3.0, 1.5]),
        "feature_importance/gain/column": np.array([0]),
    }
    bench = Bench(FeatureImportanceOverweight(k=k, share=share - 0.01))
    (finding,) = bench.steps(5, custom=rows)
    assert finding.value == pytest.approx(share)
    assert Bench(FeatureImportanceOverweight(k=k, share=share)).steps(5, custom=rows) == []


@pytest.mark.parametrize("rule", [LowFeatureImportance, FeatureImportanceOverweight])
def test_wrong_settings(rule: type[Rule]) -> None:
    with pytest.raises(ValueError, match=rf"{rule.__name__}\.importance: 'gian' is none of gain, cover, weight"):
        rule(importance="gian")  # type: ignore[call-arg]
    with pytest.raises(ValueError, match=r"FeatureImportanceOverweight\.k: 4 is not from 1 to 3"):
        FeatureImportanceOverweight(k=4)
