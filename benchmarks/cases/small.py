"""Small tensors, where the call costs more than the reduction."""

import numpy as np
import tensometer

from benchmarks import answers
from benchmarks.cases.torch_peers import many
from benchmarks.data import weights
from benchmarks.harness import Case, Side
from benchmarks.peers import numpy_nine
from benchmarks.scale import Scale

ELEMENTS = 1000


def one_array(scale: Scale) -> Case:
    """The whole Python call on an array of 1000 elements."""
    x = weights(scale, 4 * ELEMENTS).copy()

    def check() -> None:
        expected = answers.reference(x)
        answers.check_summary("summarize", tensometer.summarize(x), expected)
        answers.check_summary("summarize with histogram", tensometer.summarize(x, histogram=True), expected)

    sides = (
        Side("summarize", lambda: tensometer.summarize(x)),
        Side("summarize with histogram", lambda: tensometer.summarize(x, histogram=True)),
        Side("NumPy nine", lambda: numpy_nine(x)),
        Side("an empty call", lambda: None),
    )
    return Case(x.size, x.nbytes, sides, check)


def many_arrays(scale: Scale) -> Case:
    """1000 arrays in one call, and the same elements as one array: the difference is what a tensor costs."""
    arrays = many(scale, 1000, 4 * ELEMENTS)
    joined = np.concatenate(arrays)

    def check() -> None:
        for threads in (1, 2):
            table = tensometer.summarize_many(arrays, threads=threads)
            answers.same("rows", len(table), len(arrays))
            for number in range(0, len(arrays), 97):
                answers.check_summary(f"row {number}", table[number], answers.reference(arrays[number]))

    sides = (
        Side("summarize_many", lambda: tensometer.summarize_many(arrays, threads=1)),
        Side("summarize_many, all threads", lambda: tensometer.summarize_many(arrays)),
        Side("one summarize of the same elements", lambda: tensometer.summarize(joined, threads=1)),
        Side("NumPy nine of each", lambda: [numpy_nine(x) for x in arrays]),
    )
    return Case(joined.size, joined.nbytes, sides, check)


CASES = {"one small array": one_array, "1000 small arrays": many_arrays}
