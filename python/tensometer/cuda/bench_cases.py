"""What is timed beside training: large tensors against a copy, many tensors against torch's calls, a submit itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from tensometer import _core
from tensometer.cuda.bench_timing import Case, require

COPY = "copy"
SUBMIT = "one submit"

# name, dtype, options.
_LARGE: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("moments", "float32", {}),
    ("moments", "bfloat16", {}),
    ("moments", "float16", {}),
    ("moments", "float64", {}),
    ("moments", "float8_e4m3fn", {}),
    ("moments", "int8", {}),
    ("histogram, k = 3", "float32", {"histogram": True, "resolution": 3}),
    ("histogram, k = 3", "bfloat16", {"histogram": True, "resolution": 3}),
    ("histogram, k = 3", "float8_e4m3fn", {"histogram": True, "resolution": 3}),
    ("sampled histogram, k = 3", "float32", {"histogram": "sampled", "resolution": 3}),
    ("sampled histogram, k = 3", "bfloat16", {"histogram": "sampled", "resolution": 3}),
    ("histogram, k = 6", "float32", {"histogram": True, "resolution": 6}),
    ("histogram, k = 6", "bfloat16", {"histogram": True, "resolution": 6}),
    ("moments, fingerprint", "float32", {"fingerprint": True}),
    ("moments, fingerprint", "bfloat16", {"fingerprint": True}),
)
_WITH_HISTOGRAM: dict[str, Any] = {"histogram": True, "resolution": 3}
_BINS, _RANGE = 64, 0.125
# Of one layer of a small model: norms, biases, projections.
_SHAPES = ((1024,), (1024,), (1024, 64), (64,), (256, 256))


@dataclass(frozen=True)
class Data:
    """Random tensors on torch's device, which the seed tells."""

    device: Any
    seed: int

    def normal(self, shape: tuple[int, ...], dtype: str, number: int = 0) -> Any:
        """Weights as they are, in a dtype of torch; whole numbers have their bits' bytes."""
        import torch

        generator = torch.Generator(self.device).manual_seed(self.seed + number)
        wanted = getattr(torch, dtype)
        if not wanted.is_floating_point:
            return torch.randint(-128, 128, shape, device=self.device, generator=generator, dtype=wanted)
        return (0.02 * torch.randn(shape, device=self.device, generator=generator)).to(wanted)


def large_cases(data: Data, nbytes: int) -> Iterator[Case]:
    """One tensor of so many bytes: every side but the copy reads it once."""
    for what, dtype, options in _LARGE:
        x = data.normal((nbytes // _size(dtype),), dtype)
        yield large_case(f"{what}: {dtype}", x, options)


def large_case(name: str, x: Any, options: dict[str, Any]) -> Case:
    """A submit against a copy of the same bytes, from device memory to device memory."""
    import torch

    source = x.view(torch.uint8)
    target = torch.zeros_like(source)

    def check() -> None:
        target.copy_(source)
        require(torch.equal(target, source), f"{name}: the copy is another tensor")
        require(_core.summarize(x, **options) == _core.summarize(x.cpu(), **options), f"{name}: not as on the CPU")

    sides: dict[str, Callable[[], object]] = {
        SUBMIT: lambda: _core.summarize_async(x, **options),
        COPY: lambda: target.copy_(source),
    }
    return Case(name, x.numel() * x.element_size(), sides, check)


def model_tensors(data: Data, count: int, dtype: str) -> list[Any]:
    """Tensors of the sizes that a model has, most of them small."""
    return [data.normal(_SHAPES[i % len(_SHAPES)], dtype, i) for i in range(count)]


def many_case(tensors: list[Any]) -> Case:
    """All tensors of a model at once, against what one would call of torch."""
    import torch

    def each() -> list[Any]:
        return [(x.norm(), *torch.aminmax(x), x.isnan().sum()) for x in tensors]

    def histograms() -> list[Any]:
        # On a device histc takes float32 and wider alone.
        return [torch.histc(x.float(), _BINS, -_RANGE, _RANGE) for x in tensors]

    sides: dict[str, Callable[[], object]] = {
        SUBMIT: lambda: _core.summarize_async(tensors),
        f"{SUBMIT}, histogram k = 3": lambda: _core.summarize_async(tensors, **_WITH_HISTOGRAM),
        "torch._foreach_norm": lambda: torch._foreach_norm(tensors),
        "torch, a tensor at a time: norm, aminmax, isnan().sum()": each,
        "torch.histc, a tensor at a time": histograms,
    }
    nbytes = sum(x.numel() * x.element_size() for x in tensors)
    name = f"{len(tensors)} tensors, {tensors[0].dtype}".replace("torch.", "")
    return Case(name, nbytes, sides, lambda: _check_many(name, tensors, each(), histograms()))


def _check_many(name: str, tensors: list[Any], each: list[Any], histograms: list[Any]) -> None:
    import torch

    hosts = [x.cpu() for x in tensors]
    for options in ({}, _WITH_HISTOGRAM):
        found, expected = _core.summarize_many(tensors, **options), _core.summarize_many(hosts, **options)
        require(list(found) == list(expected), f"{name}: not as on the CPU")
    norms = torch._foreach_norm(tensors)
    for i, (row, host) in enumerate(zip(expected, hosts, strict=True)):
        norm, low, high, nans = (float(value) for value in each[i])
        close = _close(norm, row.l2) and _close(float(norms[i]), row.l2)
        require(close, f"{name}: norms of tensor {i}: torch {norm} and {float(norms[i])}, tensometer {row.l2}")
        require((low, high, nans) == (row.min, row.max, row.nan), f"{name}: extremes and NaN of tensor {i}")
        counts = _core.histogram(host, _BINS, (-_RANGE, _RANGE)).counts
        apart = sum(abs(int(a) - int(b)) for a, b in zip(histograms[i].tolist(), counts, strict=True))
        # torch finds bins by a product in float32: neighbours of an edge may fall to its other side.
        require(apart <= 2 + 1e-3 * row.count, f"{name}: histogram of tensor {i}: {apart} of {row.count} elsewhere")


def latency_cases(tensors: list[Any]) -> Iterator[Case]:
    """What the host pays for a submit, and how long a result takes that is waited for; the device has nothing to do."""
    for some in (tensors[:1], tensors):
        name = f"{len(some)} tensor{'s' * (len(some) > 1)}"

        def check(some: list[Any] = some, name: str = name) -> None:
            found, expected = _core.summarize_async(some).result(), _core.summarize_many([x.cpu() for x in some])
            require(list(found) == list(expected), f"submit of {name}: not as on the CPU")

        sides: dict[str, Callable[[], object]] = {
            "summarize_async returns": lambda some=some: _core.summarize_async(some),  # type: ignore[misc]
            "summarize_many has its results": lambda some=some: _core.summarize_many(some),  # type: ignore[misc]
        }
        yield Case(name, 0, sides, check, busy=False)


def _close(found: float, expected: float) -> bool:
    # torch adds in float32, whose sums of 65536 terms are right to some 2^-12, and rounds to the tensor's dtype.
    return abs(found - expected) <= 2**-7 * abs(expected)


def _size(dtype: str) -> int:
    import torch

    return int(torch.empty(0, dtype=getattr(torch, dtype)).element_size())
