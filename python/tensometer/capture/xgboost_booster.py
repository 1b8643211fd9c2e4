"""What an XGBoost booster looks like after a round of boosting."""

import json
from collections.abc import Sequence
from contextlib import AbstractContextManager
from functools import cached_property, partial
from typing import Any, Protocol

import numpy as np

from tensometer.capture.deferred import Deferred

Column = np.ndarray[Any, np.dtype[Any]]


class Recorder(Protocol):
    """The part of a Monitor that is needed here."""

    def record(self, name: str, tensor: object, *, collection: str = "custom") -> None:
        """Capture a tensor, if this step is captured."""

    def phase(self, name: str) -> AbstractContextManager[None]:
        """Mark what is captured inside as of another phase."""


def record_booster(monitor: Recorder, booster: Any, evals: Sequence[tuple[Any, str]] = ()) -> None:
    """Record the last round of a booster. evals: matrices and their names, as xgboost.train takes them.

    `tree_depth`, `tree_leaves`: of each tree of that round, several if there are several classes or parallel trees, in
    the booster's order; a tree that is a single leaf has depth 0. `feature_importance/gain`, `/cover`, `/weight`: over
    all rounds, a value for each feature in the order of booster.feature_names (without names: of the columns), 0 for
    features in no tree; and of each of these `/largest`, its three largest values, and `/column`, where the largest is,
    which rules read. `predictions/<name>`, `labels/<name>`: of each matrix, in the collections `predictions` and
    `labels`, phase "eval". A linear booster has no trees: of it the importance `weight` holds the coefficients, and
    what is about trees is empty. Nothing is computed in a step that is not captured.
    """
    trees = _LastRound(booster)
    monitor.record("tree_depth", Deferred(lambda: trees.shapes[0]))
    monitor.record("tree_leaves", Deferred(lambda: trees.shapes[1]))
    for kind in ("gain", "cover", "weight"):
        importance = _Importance(booster, kind)
        monitor.record(f"feature_importance/{kind}", Deferred(importance.values))
        monitor.record(f"feature_importance/{kind}/largest", Deferred(importance.largest))
        monitor.record(f"feature_importance/{kind}/column", Deferred(importance.leader))
    with monitor.phase("eval"):
        for matrix, name in evals:
            prediction = Deferred(partial(booster.predict, matrix))
            monitor.record(f"predictions/{name}", prediction, collection="predictions")
            monitor.record(f"labels/{name}", Deferred(matrix.get_label), collection="labels")


class _LastRound:
    """The trees of a booster's last round, parsed when they are first asked for."""

    def __init__(self, booster: Any) -> None:
        self._booster = booster

    @cached_property
    def shapes(self) -> tuple[Column, Column]:
        """Depth and number of leaves of each tree."""
        rounds = self._booster.num_boosted_rounds()
        trees = []
        if rounds and not _is_linear(self._booster):
            # A slice, so that the cost of a round does not grow with the rounds before it.
            learner = json.loads(self._booster[rounds - 1 : rounds].save_raw("json"))["learner"]
            model = learner["gradient_booster"]
            trees = model.get("gbtree", model)["model"]["trees"]  # boosters with dropout wrap the other kind
        shapes = [_shape(tree["left_children"], tree["right_children"]) for tree in trees]
        return np.array([depth for depth, _ in shapes], np.int32), np.array([leaves for _, leaves in shapes], np.int32)


def _shape(left: list[int], right: list[int]) -> tuple[int, int]:
    """Depth and leaves, from the children of each node, -1 for none. Level by level: pruned nodes are never reached."""
    depth, leaves, level = 0, 0, [0]
    while level:
        inner = [node for node in level if left[node] != -1]
        leaves += len(level) - len(inner)
        level = [child for node in inner for child in (left[node], right[node])]
        depth += bool(level)
    return depth, leaves


class _Importance:
    """The importances of a booster's features, asked of it once."""

    def __init__(self, booster: Any, kind: str) -> None:
        self._booster, self._kind = booster, kind

    def values(self) -> Column:
        """Of each feature."""
        return self._values

    def largest(self) -> Column:
        """The three largest; 0 for what there is not, so that there are always three."""
        found = np.sort(self._values)[::-1][:3]
        return np.concatenate([found, np.zeros(3 - len(found))])

    def leader(self) -> Column:
        """Where the largest is."""
        return np.flatnonzero(self._values == self.largest()[0])[:1]

    @cached_property
    def _values(self) -> Column:
        booster, kind = self._booster, self._kind
        if kind != "weight" and _is_linear(booster):
            return np.zeros(0)
        found = booster.get_score(importance_type=kind)
        names = booster.feature_names or [f"f{column}" for column in range(booster.num_features())]
        return np.array([found.get(name, 0.0) for name in names], np.float64)


def _is_linear(booster: Any) -> bool:
    return bool(json.loads(booster.save_config())["learner"]["gradient_booster"]["name"] == "gblinear")
