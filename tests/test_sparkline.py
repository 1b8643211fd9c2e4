"""The drawing of a histogram: every element is in it, those at the ends too."""

import numpy as np
import pytest
import tensometer
from tensometer.report.sparkline import as_ascii, sparkline


def drawn(values: object) -> str:
    return sparkline(tensometer.summarize(np.asarray(values, np.float32), histogram=True, resolution=3))


@pytest.mark.parametrize(
    ("values", "line"),
    [
        ([-1, 1], "█                  █"),
        ([0, 1, 1, 1], "▃                  █"),
        ([-1, 0, 1], "█         █        █"),
        ([-2, 0], "█                  █"),
    ],
)
def test_elements_at_the_ends_of_the_range(values: list[float], line: str) -> None:
    """Powers of two begin a bin of the logarithmic histogram, which then lies beyond the range."""
    assert drawn(values * 50) == line
    assert as_ascii(line).count("@") == line.count("█")


def test_saturation_shows(rng: np.random.Generator) -> None:
    line = drawn(np.clip(rng.standard_normal(9999) * 2, -1, 1))
    assert (line[0], line[-1], set(line[1:-1])) == ("█", "█", {"▁"})


@pytest.mark.parametrize("values", [[], [3, 3], [np.nan, np.inf]])
def test_nothing_to_draw(values: list[float]) -> None:
    assert drawn(values) == ""


def test_a_sample_that_met_no_element() -> None:
    x = np.full(1 << 21, np.nan, np.float32)
    at = next(b for b in range(64, 512) if (b * 0x9E3779B97F4A7C15) % 2**64 >> 61)
    x[at * 4096 : at * 4096 + 2] = 1, 2
    s = tensometer.summarize(x, histogram="sampled")
    assert s.histogram is not None
    assert (s.min, s.max, s.histogram.total, sparkline(s)) == (1, 2, 0, "")
