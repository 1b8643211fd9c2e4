"""What every side is held against before it is timed: float64 references, computed in chunks."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.data import Array

CHUNK = 1 << 20
# Tight enough to show a wrong formula or a lost element, loose enough for float32 lanes; tests/ hold the real bounds.
SUMS = 1e-6
PEERS = 2e-3  # NumPy's float32 reductions, and most of torch's
# torch's vector_norm adds float32 one after the other: of 67 million elements l1 is 6 % off on one thread, l2 0.6 %.
TORCH_NORMS = 0.1


class WrongAnswerError(Exception):
    """A side computed something else than the reference."""


@dataclass(frozen=True)
class Reference:
    count: int
    zeros: int
    min: float
    max: float
    mean: float
    std: float
    l1: float
    l2: float


def reference(x: Array) -> Reference:
    def chunks() -> Any:
        for start in range(0, x.size, CHUNK):
            part = x[start : start + CHUNK]
            yield np.abs(part.astype(np.complex128)) if x.dtype.kind == "c" else part.astype(np.float64)

    mean = math.fsum(float(part.sum()) for part in chunks()) / x.size
    return Reference(
        count=x.size,
        zeros=sum(part.size - int(np.count_nonzero(part)) for part in chunks()),
        min=min(float(part.min()) for part in chunks()),
        max=max(float(part.max()) for part in chunks()),
        mean=mean,
        std=math.sqrt(math.fsum(float(np.square(part - mean).sum()) for part in chunks()) / x.size),
        l1=math.fsum(float(np.abs(part).sum()) for part in chunks()),
        l2=math.sqrt(math.fsum(float(np.square(part).sum()) for part in chunks())),
    )


def same(what: str, got: object, expected: object) -> None:
    if got != expected:
        raise WrongAnswerError(f"{what} is {got}, expected {expected}")


def close(what: str, got: float, expected: float, relative: float, absolute: float = 0.0) -> None:
    if not math.isclose(got, expected, rel_tol=relative, abs_tol=absolute):
        raise WrongAnswerError(
            f"{what} is {got!r}, expected {expected!r} within {relative:g} relative, {absolute:g} absolute"
        )


def equal_counts(what: str, got: Array, expected: Array) -> None:
    if got.shape != expected.shape or not np.array_equal(got, expected):
        raise WrongAnswerError(f"{what}: the counts differ from the expected ones")


def check_summary(what: str, summary: Any, expected: Reference) -> None:
    same(f"{what}: count", summary.count, expected.count)
    same(f"{what}: zeros", summary.zeros, expected.zeros)
    same(f"{what}: nonfinite", summary.nonfinite, 0)
    close(f"{what}: min", summary.min, expected.min, 1e-15)
    close(f"{what}: max", summary.max, expected.max, 1e-15)
    close(f"{what}: mean", summary.mean, expected.mean, SUMS, SUMS * expected.std)
    close(f"{what}: std", summary.std, expected.std, SUMS)
    close(f"{what}: l1", summary.l1, expected.l1, SUMS)
    close(f"{what}: l2", summary.l2, expected.l2, SUMS)


def check_peer(what: str, got: dict[str, float], expected: Reference, relative: float = PEERS) -> None:
    """A peer's answers by the names of Reference; sums in float32 are only as good as the peer makes them."""
    for name, value in got.items():
        close(f"{what}: {name}", float(value), getattr(expected, name), relative, PEERS * expected.std)
