"""Tables and histograms as pickles: what was written comes back, what is no state is refused."""

import copy
import pickle
from typing import Any

import numpy as np
import pytest
import tensometer


@pytest.mark.parametrize("fingerprint", [False, True])
def test_pickles(fingerprint: bool, rng: np.random.Generator) -> None:
    tensors = {"a": rng.standard_normal(5000), "b": np.zeros((2, 0), np.int64), "\u00e9": np.float32([np.nan])}
    for given in (tensors, tensors.values(), []):
        table = tensometer.summarize_many(given, histogram=True, fingerprint=fingerprint)
        again = pickle.loads(pickle.dumps(table))
        assert (again.names, len(again), again.columns) == (table.names, len(table), table.columns)
        assert list(again) == list(table)
        assert copy.deepcopy(table).column("linf").tolist() == table.column("linf").tolist()


def test_states_that_are_no_table() -> None:
    rows, names, fingerprints = tensometer.summarize_many({"a": np.ones(3)}, fingerprint=True).__getstate__()
    wrong: list[Any] = [(rows, names), (rows, ["a", "b"], True), (rows, names, False), ([rows[0][1:]], names, True)]
    for state in (*wrong, ([1], names, True), (rows, [1], True), (rows, 5, True), (5, names, True), ()):
        table = tensometer.SummaryTable.__new__(tensometer.SummaryTable)
        with pytest.raises(ValueError, match="state"):
            table.__setstate__(state)
    assert fingerprints


def test_histograms_pickle() -> None:
    h = tensometer.histogram(np.arange(10.0), 4)
    again = pickle.loads(pickle.dumps(h))
    assert (again.counts.tolist(), again.edges.tolist()) == (h.counts.tolist(), h.edges.tolist())
    with pytest.raises(ValueError, match="state"):
        tensometer.Histogram.__new__(tensometer.Histogram).__setstate__((1, 2))  # type: ignore[arg-type]
