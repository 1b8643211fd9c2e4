"""From 1e3 bytes to beyond the caches, one thread and the default number of threads."""

from functools import partial

import tensometer
import torch

from benchmarks import answers
from benchmarks.data import weights
from benchmarks.harness import Case, Side
from benchmarks.peers import numpy_nine, reads, torch_best, torch_side
from benchmarks.scale import Scale


def size(nbytes: int, scale: Scale) -> Case:
    x = weights(scale, nbytes).copy()
    t = torch.from_numpy(x)

    def check() -> None:
        expected = answers.reference(x)
        for histogram in (False, True):
            answers.check_summary("summarize", tensometer.summarize(x, histogram=histogram, threads=1), expected)
            answers.check_summary("summarize", tensometer.summarize(x, histogram=histogram), expected)

    sides = (
        Side("summarize, 1 thread", lambda: tensometer.summarize(x, threads=1)),
        Side("summarize", lambda: tensometer.summarize(x)),
        Side("with histogram, 1 thread", lambda: tensometer.summarize(x, histogram=True, threads=1)),
        Side("with histogram", lambda: tensometer.summarize(x, histogram=True)),
        Side("NumPy nine", lambda: numpy_nine(x)),
        torch_side("torch, best composition", lambda: torch_best(t), 1),
        *reads(x),
    )
    return Case(x.size, x.nbytes, sides, check)


CASES = {f"1e{power} bytes": partial(size, 10**power) for power in range(3, 9)}
