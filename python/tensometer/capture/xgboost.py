"""XGBoost: a callback for xgboost.train, xgboost.cv and the estimators with scikit-learn's interface."""

import os
import re
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from tensometer.capture.callbacks import MonitoredLoop
from tensometer.capture.xgboost_booster import record_booster
from tensometer.extras import require
from tensometer.monitor import Monitor

__all__ = ["MonitorCallback", "record_booster"]

_xgboost = require("xgboost", extra="xgboost", purpose="tensometer.capture.xgboost")
# Metrics that are objectives of xgboost as well, of which less is better.
_OBJECTIVE = re.compile(r"logloss|rmsle|rmse|mae|mape|mphe|nloglik|deviance|quantile")
_Callback: Any = _xgboost.callback.TrainingCallback


class MonitorCallback(_Callback):  # type: ignore[misc]
    """Captures boosting: every round is a step, numbered by the rounds that the booster had before it.

    monitor: a Monitor, which stays open, or the path or URL of a run, whose monitor is closed when training is over.
    evals: matrices and their names whose predictions and labels are recorded, as xgboost.train takes them. settings:
    those of the Monitor that is made. Recorded are the evaluation metrics as `validation-logloss` (in the collection
    `losses` if trees are grown to make it small, as logloss, rmse, mae, deviance and likelihoods, else `metrics`; of
    xgboost.cv the mean, and as `test-logloss-std` the deviation), and what record_booster tells: trees, importances,
    predictions. TypeError or ValueError for wrong arguments.
    """

    def __init__(
        self,
        monitor: Monitor | str | os.PathLike[str],
        evals: Sequence[tuple[Any, str]] = (),
        **settings: Any,
    ) -> None:
        super().__init__()
        self._evals = _checked(evals)
        self._loop = MonitoredLoop(monitor, settings)

    def before_training(self, model: Any) -> Any:
        """Make or continue the run."""
        self._loop.guard(partial(self._begin, model))
        return model

    def after_iteration(self, model: Any, epoch: int, evals_log: Any) -> bool:
        """Record a round, and close the step. Training goes on, unless an action stops it."""
        self._loop.guard(partial(self._record, model, evals_log))
        self._loop.guard(self._loop.end_step)
        return self._loop.stopped

    def after_training(self, model: Any) -> Any:
        """Finish the run."""
        self._loop.guard(self._loop.end)
        return model

    def _begin(self, model: Any) -> None:
        rounds = 0 if _is_cross_validation(model) else model.num_boosted_rounds()
        rank, size = _xgboost.collective.get_rank(), _xgboost.collective.get_world_size()
        self._loop.begin(rounds, rank=rank, world_size=size)

    def _take(self, name: str, value: float, collection: str) -> None:
        if self._loop.monitor is not None:
            self._loop.monitor.record(name, np.float64(value), collection=collection)

    def _record(self, model: Any, evals_log: Any) -> None:
        for matrix, metrics in evals_log.items():
            for metric, history in metrics.items():
                name, last = f"{matrix}-{metric}", history[-1]
                if isinstance(last, tuple):
                    last, deviation = last
                    self._take(f"{name}-std", deviation, "metrics")
                self._take(name, last, "losses" if _OBJECTIVE.search(metric) else "metrics")
        if self._loop.monitor is not None and not _is_cross_validation(model):
            record_booster(self._loop.monitor, model, self._evals)


def _is_cross_validation(model: Any) -> bool:
    return hasattr(model, "cvfolds")


def _checked(evals: Any) -> list[tuple[Any, str]]:
    pairs = list(evals) if isinstance(evals, list | tuple) else None
    if pairs is None or not all(isinstance(pair, tuple) and len(pair) == 2 for pair in pairs):
        raise TypeError(f"evals: {evals!r:.100} is not a list of pairs of a DMatrix and its name")
    for matrix, name in pairs:
        if not isinstance(matrix, _xgboost.DMatrix) or not isinstance(name, str):
            raise TypeError(f"evals: {(matrix, name)!r:.100} is not a pair of a DMatrix and its name")
    return pairs
