"""What a table of summaries tells of all its rows together."""

import numpy as np
import pytest
import tensometer
from tensometer._core import norm


def test_totals_of_a_table() -> None:
    x = np.array([1, np.nan, np.inf], np.float32)
    table = tensometer.summarize_many([x, np.ones(4, np.float16), np.full(2, -np.inf)])
    assert table.nonfinite == 4
    assert norm([table, table]) == pytest.approx((2 * 5) ** 0.5, rel=1e-15)
    assert (norm([]), norm([tensometer.summarize_many([])])) == (0, 0)
    counted = tensometer.summarize_many([np.arange(1000.0)], histogram=True)
    assert counted[0].histogram is not None
    bins = len(counted[0].histogram.bins)
    assert tensometer.summarize_many([np.arange(1000.0)]).nbytes + 12 * bins <= counted.nbytes <= 1000 + 12 * bins
    assert tensometer.summarize_many([]).nbytes == 0
    with pytest.raises(TypeError, match="tables: 5 is not a SummaryTable"):
        norm([5])  # type: ignore[list-item]


def test_a_part_of_a_table_is_a_table(rng: np.random.Generator) -> None:
    arrays = {name: rng.standard_normal(n) for name, n in (("a", 5), ("b", 70), ("c", 3))}
    table = tensometer.summarize_many(arrays, histogram=True, fingerprint=True)
    part = table.part(1, 3)
    assert part.names == ["b", "c"]
    assert list(part) == list(table)[1:]
    assert part.column("fingerprint").tolist() == table.column("fingerprint").tolist()[1:]
    assert len(table.part(2, 2)) == 0
    assert tensometer.summarize_many(list(arrays.values())).part(0, 2).names is None
    for first, last, words in ((2, 1, "first: "), (0, 4, "last: "), (-1, 2, "first: ")):
        with pytest.raises(ValueError, match=words):
            table.part(first, last)
