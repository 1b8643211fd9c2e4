"""Two tensors, and a summary for every row of one, against what NumPy needs for the same numbers."""

import numpy as np
import tensometer

from benchmarks import answers
from benchmarks.data import weights
from benchmarks.harness import Case, Side
from benchmarks.scale import Scale


def compare(scale: Scale) -> Case:
    old = weights(scale, scale.largest // 2)
    new = old.copy()
    new[::7] *= np.float32(1.01)

    def numpy_compare() -> tuple[float, float, int, float]:
        difference = new - old
        old_norm = np.linalg.norm(old)
        cosine = np.dot(old, new) / (old_norm * np.linalg.norm(new))
        return (
            float(np.linalg.norm(difference) / old_norm),
            float(cosine),
            int(np.count_nonzero(difference)),
            float(np.abs(difference).max()),
        )

    def check() -> None:
        ours = tensometer.compare(old, new, threads=1)
        relative, cosine, changed, largest = numpy_compare()
        answers.same("changed", ours.changed, changed)
        answers.close("relative_update", ours.relative_update, relative, answers.PEERS)
        answers.close("cosine", ours.cosine, cosine, answers.PEERS)
        answers.close("max_abs_difference", ours.max_abs_difference, largest, 1e-6)

    sides = (
        Side("compare", lambda: tensometer.compare(old, new, threads=1)),
        Side("NumPy: update, cosine, changed, largest difference", numpy_compare),
    )
    return Case(old.size, 2 * old.nbytes, sides, check)


def units(scale: Scale) -> Case:
    x = weights(scale, scale.largest // 4)
    rows = x[: x.size // 768 * 768].reshape(-1, 768)

    def numpy_rows() -> tuple[object, ...]:
        return (
            rows.min(axis=1),
            rows.max(axis=1),
            rows.mean(axis=1),
            rows.var(axis=1),
            np.linalg.norm(rows, axis=1),
            np.abs(rows).sum(axis=1),
            np.count_nonzero(rows, axis=1),
        )

    def check() -> None:
        for dim in (0, 1):
            table = tensometer.summarize_units(rows, dim, threads=1)
            answers.same("units", len(table), rows.shape[dim])
            expected = rows.astype(np.float64).std(axis=1 - dim)
            worst = float(np.abs(table.column("std") / expected - 1).max())
            answers.close("largest error of std", worst, 0, 0, answers.SUMS)

    sides = (
        Side("summarize_units of rows", lambda: tensometer.summarize_units(rows, 0, threads=1)),
        Side("summarize_units of columns", lambda: tensometer.summarize_units(rows, 1, threads=1)),
        Side("NumPy: seven statistics of rows", numpy_rows),
    )
    return Case(rows.size, rows.nbytes, sides, check)


CASES = {"two tensors": compare, "units": units}
