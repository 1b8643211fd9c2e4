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
