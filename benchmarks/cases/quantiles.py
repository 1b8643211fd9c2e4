"""Quantiles from the logarithmic histogram against ddsketch, a sketch with a relative error of 1 %, and np.quantile."""

import ddsketch
import numpy as np
import tensometer

from benchmarks import answers
from benchmarks.data import weights
from benchmarks.harness import Case, Side
from benchmarks.scale import Scale

WANTED = (0.01, 0.25, 0.5, 0.75, 0.99)
OURS, SKETCH = 1 / 128, 0.01  # the relative errors that each promises


def quantiles(scale: Scale) -> Case:
    """Magnitudes, as ddsketch promises its error only within one sign, and few, as it takes one value a call."""
    x = np.abs(weights(scale, 400_000))
    values = [float(value) for value in x]

    def ours() -> list[float]:
        summary = tensometer.summarize(x, histogram=True, threads=1)
        return [summary.quantile(q) for q in WANTED]

    def sketch() -> list[float]:
        filled = ddsketch.DDSketch(SKETCH)
        for value in values:
            filled.add(value)
        return [float(filled.get_quantile_value(q) or 0.0) for q in WANTED]

    def exact() -> list[float]:
        return [float(q) for q in np.quantile(x, WANTED, method="lower")]

    def check() -> None:
        for got, error in ((ours(), OURS), (sketch(), SKETCH)):
            for q, value, expected in zip(WANTED, got, exact(), strict=True):
                answers.close(f"quantile {q}", value, expected, 0, 1.001 * error * expected + 1e-12)

    sides = (
        Side("summarize + quantiles", ours),
        Side("ddsketch", sketch),
        Side("np.quantile (exact)", exact),
    )
    return Case(x.size, x.nbytes, sides, check)


CASES = {"quantiles": quantiles}
