"""What the peers are asked to do, written once."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from benchmarks.data import Array
from benchmarks.harness import Side


def numpy_nine(x: Array) -> tuple[Any, ...]:
    """Minimum, maximum, mean, variance, norm, sum of magnitudes, non-zeros, NaNs, infinities: one call each."""
    return (
        x.min(),
        x.max(),
        x.mean(),
        x.var(),
        np.linalg.norm(x),
        np.abs(x).sum(),
        np.count_nonzero(x),
        np.count_nonzero(np.isnan(x)),
        np.count_nonzero(np.isinf(x)),
    )


def nine_by_name(nine: tuple[Any, ...], count: int) -> dict[str, float]:
    low, high, mean, var, l2, l1, nonzeros = (float(value) for value in nine[:7])
    zeros = count - nonzeros
    return {"min": low, "max": high, "mean": mean, "std": var**0.5, "l2": l2, "l1": l1, "zeros": zeros}


def torch_named(t: torch.Tensor) -> tuple[Any, ...]:
    """The functions a torch user reaches for first."""
    low, high = torch.aminmax(t)
    var, mean = torch.var_mean(t, correction=0)
    return low, high, mean, var, *_torch_rest(t)


def torch_best(t: torch.Tensor) -> tuple[Any, ...]:
    """The fastest form of each: on one thread `var` and `mean` apart take a quarter of `var_mean`'s time."""
    low, high = torch.aminmax(t)
    return low, high, torch.mean(t), torch.var(t, correction=0), *_torch_rest(t)


def _torch_rest(t: torch.Tensor) -> tuple[Any, ...]:
    norms = torch.linalg.vector_norm(t, 2), torch.linalg.vector_norm(t, 1)
    return *norms, torch.count_nonzero(t), torch.isfinite(t).all()


@contextmanager
def _torch_threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def torch_side(name: str, call: Callable[[], object], threads: int) -> Side:
    return Side(name, call, lambda: _torch_threads(threads))


def reads(x: Array, threads: int = 1) -> tuple[Side, ...]:
    """Plain reads of the same memory, each a single reduction that some library vectorised; the fastest of them
    stands for the read bandwidth of `threads` cores."""
    t = torch.from_numpy(x.view(np.uint8)[: x.nbytes // 8 * 8])
    torch_reads = (
        torch_side("read: torch.sum int64", t.view(torch.int64).sum, threads),
        torch_side("read: torch.amax int32", t.view(torch.int32).amax, threads),
    )
    if threads > 1:
        return torch_reads
    floats = x.view(np.uint8)[: x.nbytes // 4 * 4].view(np.float32)
    words = t.numpy().view(np.uint64)
    return (
        Side("read: np.dot float32", lambda: np.dot(floats, floats)),
        Side("read: np.sum uint64", words.sum),
        Side("read: np.bitwise_or uint64", lambda: np.bitwise_or.reduce(words)),
        Side("read: np.max float32", floats.max),
        *torch_reads,
    )
