"""`python -m tensometer.cuda --selftest`: summaries from the device against the CPU's, with ==."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tensometer import _core
from tensometer.cuda import available
from tensometer.cuda.devices import Device
from tensometer.cuda.samples import Sample, carrier, dense, ordinary_values, patterns, positions, sample
from tensometer.cuda.terminal import progress

Options = dict[str, Any]

_RESOLUTIONS = range(8)
_STREAMS = 4


@dataclass(frozen=True)
class Sizes:
    """How much is tested: random tensors, so many a submit, and their largest; rows of positions; large tensors."""

    tensors: int = 1000
    batch: int = 50
    largest: int = 1 << 20
    rows: int = 4096
    large: int = (1 << 24) + 4097


class Tally:
    """Counts comparisons, keeps the first difference, and tells a terminal how far things are."""

    def __init__(self) -> None:
        self.tensors = self.comparisons = self.differing = 0
        self.first = ""

    def took(self, tensors: int, what: str) -> None:
        """So many more tensors are done."""
        self.tensors += tensors
        progress(f"{self.tensors} tensors, {self.comparisons} comparisons, {self.differing} differ: {what}")

    def same(self, name: str, call: str, found: Any, expected: Any) -> None:
        """One comparison, of two summaries or comparisons."""
        self.comparisons += 1
        if found == expected:
            return
        self.differing += 1
        self.first = self.first or f"{name}: {call}: {_difference(found, expected)}"

    def rows(self, names: Sequence[str], call: str, found: Iterable[Any], expected: Iterable[Any]) -> None:
        """One comparison a row of two tables."""
        for name, one, other in zip(names, found, expected, strict=True):
            self.same(name, call, one, other)


@dataclass(frozen=True)
class Test:
    """What every check has at hand."""

    device: Device
    seed: int
    sizes: Sizes
    tally: Tally

    def options(self, number: int) -> list[Options]:
        """Without and with everything that may be asked for; the number chooses the resolutions."""
        fine, coarse = _RESOLUTIONS[number % 8], _RESOLUTIONS[(3 * number + 3) % 8]
        return [
            {},
            {"histogram": True, "resolution": 3},
            {"histogram": True, "resolution": fine, "fingerprint": True},
            {"histogram": "sampled", "resolution": coarse},
        ]

    def whole(self, samples: Sequence[Sample], tensors: Sequence[Any], number: int) -> None:
        """Many tensors in one submit."""
        names, hosts = [one.name for one in samples], [one.host() for one in samples]
        for options in self.options(number):
            found = _core.summarize_many(tensors, **options)
            expected = _core.summarize_many(hosts, **options)
            self.tally.rows(names, f"summarize_many{_shown(options)}", found, expected)


def random_tensors(test: Test) -> None:
    """All calls, over tensors of every dtype, content and layout."""
    sizes = test.sizes
    for first in range(0, sizes.tensors, sizes.batch):
        numbers = range(first, min(first + sizes.batch, sizes.tensors))
        samples = [sample(test.seed, number, sizes.largest) for number in numbers]
        tensors = [test.device.upload(one) for one in samples]
        test.whole(samples, tensors, first // sizes.batch)
        _overlapping(test, samples, tensors)
        _units(test, samples, tensors)
        test.tally.took(len(samples), "random tensors")


def _overlapping(test: Test, samples: Sequence[Sample], tensors: Sequence[Any]) -> None:
    """One submit a tensor, on several streams, none of them waited for before all are under way."""
    pending = []
    for i, tensor in enumerate(tensors):
        with test.device.stream(i % _STREAMS):
            pending.append(_core.summarize_async(tensor, histogram=True, resolution=i % 8))
    for i in reversed(range(len(samples))):
        expected = _core.summarize(samples[i].host(), histogram=True, resolution=i % 8)
        test.tally.same(samples[i].name, f"summarize_async on stream {i % _STREAMS}", pending[i].result(), expected)


def _units(test: Test, samples: Sequence[Sample], tensors: Sequence[Any]) -> None:
    for i, (one, tensor) in enumerate(zip(samples, tensors, strict=True)):
        if one.view.ndim == 0 or (units := one.view.shape[i % one.view.ndim]) > 300:
            continue
        dim = i % one.view.ndim
        options = test.options(i)[i % 4]
        found = _core.summarize_units(tensor, dim, **options)
        expected = _core.summarize_units(one.host(), dim, **options)
        call = f"summarize_units(dim={dim}){_shown(options)}, row"
        test.tally.rows([one.name] * units, call, found, expected)


def pairs(test: Test) -> None:
    """Two tensors of one layout, of which a fourth of the bytes differ; and one with itself."""
    sizes = test.sizes
    for number in range(0, sizes.tensors, 4):
        old = sample(test.seed, number, sizes.largest)
        if carrier(old.dtype).kind == "c":  # compare() takes none
            continue
        new = old.changed(np.random.default_rng([test.seed, number])) if carrier(old.dtype).kind != "b" else old
        options: Options = [{}, {"histogram": True, "resolution": number // 8 % 8}][number // 4 % 2]
        found = _core.compare(test.device.upload(old), test.device.upload(new), **options)
        test.tally.same(old.name, f"compare{_shown(options)}", found, _core.compare(old.host(), new.host(), **options))
        test.tally.took(0, "pairs")


def pieces(test: Test) -> None:
    """Streams of which the first piece lies on the host, and two on the device begin amid a block."""
    for number in range(0, test.sizes.tensors, 4):
        one = sample(test.seed, number, test.sizes.largest)
        if not one.view.flags.c_contiguous:  # which not all that the device uploads can copy
            one = dense(f"{one.name}, packed", one.dtype, np.ascontiguousarray(one.view))
        options, tensor = test.options(number)[number // 4 % 4], test.device.upload(one)
        found, expected = (_core.Accumulator(one.dtype, **options).update(one.host()) for _ in range(2))
        for _ in range(2):
            found.update(tensor)
            expected.update(one.host())
        test.tally.same(one.name, f"Accumulator{_shown(options)}", found.summary(), expected.summary())
        test.tally.took(0, "pieces")


def special_positions(test: Test) -> None:
    """Every special value at every position of a block."""
    for dtype in _core.dtypes():
        for extremes in (False, True):
            one = positions(test.seed, dtype, test.sizes.rows, extremes)
            found = _core.summarize_units(test.device.upload(one), 0)
            names = [f"{one.name}, row {row}" for row in range(test.sizes.rows)]
            test.tally.rows(names, "summarize_units", found, _core.summarize_units(one.host(), 0))
            test.tally.took(1, one.name)


def bit_patterns(test: Test) -> None:
    """All values of the small types, with histograms of every resolution."""
    samples = [patterns(dtype) for dtype in _core.dtypes() if carrier(dtype).itemsize <= 2]
    tensors = [test.device.upload(one) for one in samples]
    for resolution in _RESOLUTIONS:
        test.whole(samples, tensors, resolution)
        test.tally.took(0, f"all bit patterns, resolution {resolution}")
    test.tally.took(len(samples), "all bit patterns")


def large_tensors(test: Test) -> None:
    """So large that a sampled histogram leaves blocks out and many thread blocks share a tensor."""
    rng = np.random.default_rng([test.seed, test.sizes.large])
    for number, dtype in enumerate(_core.dtypes()):
        one = dense(f"{dtype}: {test.sizes.large} elements", dtype, ordinary_values(rng, dtype, test.sizes.large))
        test.whole([one], [test.device.upload(one)], number)
        test.tally.took(1, one.name)


def order_of_streams(test: Test) -> None:
    """What a stream does to a tensor before a submit is seen by it, what it does afterwards is not."""
    for number in range(0, test.sizes.tensors, 5):
        one = sample(test.seed, number, test.sizes.largest)
        tensor = test.device.upload(one)
        with test.device.stream(1 + number // 5 % (_STREAMS - 1)):
            pending = [_core.summarize_async(tensor, fingerprint=True)]
            for value in (1, 0):
                test.device.overwrite(tensor, value)
                pending.append(_core.summarize_async(tensor, fingerprint=True))
        test.device.wait()
        for then, found in zip((one, one.filled(1), one.filled(0)), pending, strict=True):
            expected = _core.summarize(then.host(), fingerprint=True)
            test.tally.same(then.name, "summarize_async between writes", found.result(), expected)
        test.tally.took(0, "order of streams")


CHECKS = (bit_patterns, order_of_streams, random_tensors, pairs, pieces, special_positions, large_tensors)


def run(
    device: Device,
    seed: int = 0,
    sizes: Sizes | None = None,
    checks: Sequence[Callable[[Test], None]] = CHECKS,
) -> tuple[bool, str]:
    """Whether the device's results are the CPU's, and one line that says so, of what, and where they first differ."""
    tally = Tally()
    trouble = ""
    try:
        for check in checks:
            check(Test(device, seed, sizes or Sizes(), tally))
    except (RuntimeError, TypeError, ValueError) as error:
        # After an error the device may give no more results: those so far still count.
        trouble = f"{check.__name__}: {type(error).__name__}: {error}"
    finally:
        progress("")
    passed = not trouble and not tally.differing
    reasons = [words for words in (f"first difference: {tally.first}" if tally.first else "", trouble) if words]
    line = (
        f"tensometer {_core.__version__} selftest: {'PASS' if passed else 'FAIL'}; {device.describe()}, "
        f"kernels {' '.join(available().architectures)}, seed {seed}: {tally.tensors} tensors, "
        f"{tally.comparisons} comparisons, {tally.differing} differ"
    )
    return passed, "; ".join([line, *reasons]).replace("\n", " ")


def _difference(found: Any, expected: Any) -> str:
    """The first statistic that differs, or else what is left."""
    one, other = found.to_dict(), expected.to_dict()
    for key, value in other.items():
        if repr(one[key]) != repr(value):
            return f"{key} is {one[key]!r}, on the CPU {value!r}"
    return "all statistics agree, the histograms do not"


def _shown(options: Options) -> str:
    return f"({', '.join(f'{key}={value!r}' for key, value in options.items())})"
