"""The full summary, without and with the logarithmic histogram, against NumPy's nine calls and plain reads."""

import os

import numpy as np
import tensometer

from benchmarks import answers
from benchmarks.data import Array, weights
from benchmarks.harness import Case, Side
from benchmarks.peers import nine_by_name, numpy_nine, reads
from benchmarks.scale import Scale

CPUS = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def check(x: Array) -> None:
    expected = answers.reference(x)
    for threads in {1, 2, CPUS}:
        for histogram in (False, True):
            summary = tensometer.summarize(x, histogram=histogram, threads=threads)
            answers.check_summary(f"summarize(histogram={histogram}, threads={threads})", summary, expected)
    logarithmic = tensometer.summarize(x, histogram=True).histogram
    answers.same("elements in the histogram", int(logarithmic.counts.sum()) if logarithmic else None, x.size)
    answers.check_peer("NumPy", nine_by_name(numpy_nine(x), x.size), expected)


def one_thread(scale: Scale) -> Case:
    x = weights(scale)
    sides = (
        Side("summarize", lambda: tensometer.summarize(x, threads=1)),
        Side("summarize with histogram", lambda: tensometer.summarize(x, histogram=True, threads=1)),
        Side("summarize with sampled histogram", lambda: tensometer.summarize(x, histogram="sampled", threads=1)),
        Side("summarize with fingerprint", lambda: tensometer.summarize(x, fingerprint=True, threads=1)),
        Side("NumPy nine", lambda: numpy_nine(x)),
        *reads(x),
    )
    return Case(x.size, x.nbytes, sides, lambda: check(x))


def with_histogram(scale: Scale) -> Case:
    x = weights(scale)

    def nine_and_histogram() -> object:
        return numpy_nine(x), np.histogram(x, bins=64)

    sides = (
        Side("summarize with histogram", lambda: tensometer.summarize(x, histogram=True, threads=1)),
        Side("NumPy nine + np.histogram", nine_and_histogram),
    )
    return Case(x.size, x.nbytes, sides, lambda: check(x))


def threads(scale: Scale) -> Case:
    """One thread and two, with and without the histogram, and plain reads by two."""
    x = weights(scale)
    sides = (
        Side("summarize, 1 thread", lambda: tensometer.summarize(x, threads=1)),
        Side("summarize, 2 threads", lambda: tensometer.summarize(x, threads=2)),
        Side("with histogram, 1 thread", lambda: tensometer.summarize(x, histogram=True, threads=1)),
        Side("with histogram, 2 threads", lambda: tensometer.summarize(x, histogram=True, threads=2)),
        *reads(x, threads=2),
    )
    return Case(x.size, x.nbytes, sides, lambda: check(x))


def all_threads(scale: Scale) -> Case:
    """Every CPU this process may use."""
    x = weights(scale)
    sides = (
        Side("summarize", lambda: tensometer.summarize(x)),
        Side("summarize with histogram", lambda: tensometer.summarize(x, histogram=True)),
        *reads(x, threads=max(2, CPUS)),
    )
    return Case(x.size, x.nbytes, sides, lambda: check(x))


def nonfinite(scale: Scale) -> Case:
    """A NaN in every block: what the second, masked look at a block costs."""
    x = weights(scale)
    damaged = x.copy()
    damaged[::4096] = np.nan

    def check_nonfinite() -> None:
        summary = tensometer.summarize(damaged, threads=1)
        answers.same("nan", summary.nan, -(-x.size // 4096))
        kept = answers.reference(damaged[np.isfinite(damaged)])
        answers.close("mean", summary.mean, kept.mean, answers.SUMS, answers.SUMS * kept.std)
        answers.close("std", summary.std, kept.std, answers.SUMS)

    sides = (
        Side("summarize, all finite", lambda: tensometer.summarize(x, threads=1)),
        Side("summarize, a NaN in every block", lambda: tensometer.summarize(damaged, threads=1)),
        Side("NumPy nine, a NaN in every block", lambda: numpy_nine(damaged)),
    )
    return Case(x.size, x.nbytes, sides, check_nonfinite)


CASES = {
    "summary": one_thread,
    "summary with histogram": with_histogram,
    "two threads": threads,
    "all threads": all_threads,
    "non-finite blocks": nonfinite,
}
