"""The full summary against torch's compositions at the same thread count, and norms against torch._foreach_norm."""

import numpy as np
import tensometer
import torch

from benchmarks import answers
from benchmarks.cases.summary import CPUS
from benchmarks.data import Array, weights
from benchmarks.harness import Case, Side
from benchmarks.peers import torch_best, torch_named, torch_side
from benchmarks.scale import Scale


def one_thread(scale: Scale) -> Case:
    return _composition(scale, 1)


def all_threads(scale: Scale) -> Case:
    return _composition(scale, max(2, CPUS))


def _composition(scale: Scale, threads: int) -> Case:
    x = weights(scale)
    t = torch.from_numpy(x)
    bounds = float(x.min()), float(x.max())

    def check() -> None:
        expected = answers.reference(x)
        answers.check_summary("summarize(torch tensor)", tensometer.summarize(t, threads=threads), expected)
        for name, composition in (("torch, as named", torch_named), ("torch, best", torch_best)):
            low, high, mean, var, l2, l1, nonzeros, finite = composition(t)
            got = {"min": low, "max": high, "mean": mean, "std": float(var) ** 0.5, "zeros": x.size - int(nonzeros)}
            answers.check_peer(name, got, expected)
            answers.check_peer(name, {"l2": l2, "l1": l1}, expected, answers.TORCH_NORMS)
            answers.same(f"{name}: isfinite", bool(finite), True)

    sides = (
        Side("summarize", lambda: tensometer.summarize(t, threads=threads)),
        torch_side("torch, best composition", lambda: torch_best(t), threads),
        torch_side("torch, composition as named", lambda: torch_named(t), threads),
        Side("summarize with histogram", lambda: tensometer.summarize(t, histogram=True, threads=threads)),
        torch_side("torch, best composition + histc", lambda: (torch_best(t), torch.histc(t, 64, *bounds)), threads),
    )
    return Case(x.size, x.nbytes, sides, check)


def _norms(scale: Scale, count: int, nbytes: int) -> Case:
    """The whole summary of many tensors against their norms alone."""
    tensors = many(scale, count, nbytes)
    torch_tensors = [torch.from_numpy(tensor) for tensor in tensors]

    def check() -> None:
        ours = tensometer.summarize_many(tensors, threads=1).column("l2")
        peer = torch.stack(torch._foreach_norm(torch_tensors)).numpy()
        expected = np.array([answers.reference(tensor).l2 for tensor in tensors])
        answers.close("largest error of l2", float(np.abs(ours / expected - 1).max()), 0, 0, answers.SUMS)
        answers.close("largest error of the peer", float(np.abs(peer / expected - 1).max()), 0, 0, answers.TORCH_NORMS)

    sides = (
        Side("summarize_many", lambda: tensometer.summarize_many(torch_tensors, threads=1)),
        torch_side("torch._foreach_norm", lambda: torch._foreach_norm(torch_tensors), 1),
    )
    return Case(sum(tensor.size for tensor in tensors), sum(tensor.nbytes for tensor in tensors), sides, check)


def many(scale: Scale, count: int, nbytes: int) -> list[Array]:
    """`count` separate tensors of `nbytes` bytes."""
    values = weights(scale, nbytes)
    return [values + np.float32(1e-3 * number) for number in range(count)]


def norms_small(scale: Scale) -> Case:
    return _norms(scale, 1000, 4000)


def norms_large(scale: Scale) -> Case:
    return _norms(scale, 16, scale.largest // 16)


CASES = {
    "torch, 1 thread": one_thread,
    "torch, all threads": all_threads,
    "norms of 1000 small tensors": norms_small,
    "norms of 16 large tensors": norms_large,
}
