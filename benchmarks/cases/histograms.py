"""Histograms with uniform bins: NumPy's (the same counts), fast-histogram's and torch's (counts next to the same)."""

import fast_histogram
import numpy as np
import tensometer
import torch

from benchmarks import answers
from benchmarks.data import weights
from benchmarks.harness import Case, Side
from benchmarks.peers import torch_side
from benchmarks.scale import Scale

BINS = 64
# fast-histogram and torch round bin positions in their own way; a value next to an edge may fall on its other side.
MOVED = 1e-4


def uniform(scale: Scale) -> Case:
    """The range given, as all peers can take it; and found by a first pass, as np.histogram does without one."""
    x = weights(scale, scale.largest // 4)
    t = torch.from_numpy(x)
    bounds = float(x.min()), float(x.max())

    def check() -> None:
        for given in (None, bounds):
            expected, edges = np.histogram(x, BINS, given)
            for threads in (1, 2):
                ours = tensometer.histogram(x, BINS, given, threads=threads)
                answers.equal_counts(f"histogram(range={given}, threads={threads})", ours.counts, expected)
                answers.equal_counts("edges", ours.edges, edges)
        for name, counts in (
            ("fast-histogram", fast_histogram.histogram1d(x, BINS, bounds)),
            ("torch.histc", torch.histc(t, BINS, *bounds).numpy()),
        ):
            answers.close(name, float(np.abs(counts - expected).sum()), 0, 0, 2 + MOVED * x.size)

    sides = (
        Side("histogram", lambda: tensometer.histogram(x, BINS, threads=1)),
        Side("np.histogram", lambda: np.histogram(x, bins=BINS)),
        Side("histogram, range given", lambda: tensometer.histogram(x, BINS, bounds, threads=1)),
        Side("np.histogram, range given", lambda: np.histogram(x, BINS, bounds)),
        Side("fast-histogram, range given", lambda: fast_histogram.histogram1d(x, BINS, bounds)),
        torch_side("torch.histc, range given", lambda: torch.histc(t, BINS, *bounds), 1),
    )
    return Case(x.size, x.nbytes, sides, check)


CASES = {"uniform histogram": uniform}
