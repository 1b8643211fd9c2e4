"""The kernels that compare as nvcc emits them, executed instruction by instruction, against the contract in NumPy."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import nvcc
import pytest
import tensometer
from ptx import Kernel, Memory, Module, PtxError, parse
from ptx_launch import (
    BLOCK,
    FINISH_THREADS,
    ITEM,
    OUTPUT,
    PAIR_FOUND,
    PAIR_PART,
    REDUCE_THREADS,
    SUMMARY,
    TENSOR_PAIR,
    WORDS,
    Layout,
    bins_of,
)
from ptx_memory import Array
from samples import sample
from tensometer import _core

NVCC = nvcc.find()
pytestmark = pytest.mark.skipif(NVCC is None, reason="there is no nvcc: make cuda-test installs it")
RESOLUTION = 3


@dataclass(frozen=True)
class PairInput:
    """Elements of a type by name before and after; with `last`, the difference before."""

    name: str
    old: Array
    new: Array
    last: Array | None = None
    misaligned: int = 0


@dataclass(frozen=True)
class PairOutput:
    """What the kernels say, and what they leave in the place of the last difference."""

    whole: Any
    bins: dict[int, int]
    last: Array | None


class PairLauncher:
    """Both kernels of a module, for one pair a launch."""

    def __init__(self, ptx_layout: Layout, module: Module) -> None:
        self.layout, self.memory = ptx_layout, Memory()
        self.compare = Kernel(module, "tensometer_compare", REDUCE_THREADS, self.memory)
        self.finish = Kernel(module, "tensometer_finish_pairs", FINISH_THREADS, self.memory)

    def run(self, given: PairInput) -> PairOutput:
        memory, sizes = self.memory, self.layout.sizes
        memory.used = memory.window
        memory.flags[:] = 0
        pair = np.zeros(1, TENSOR_PAIR)
        tensors = pair["tensors"][0]
        tensors["count"], tensors["dtype"] = given.old.size, self.layout.dtypes[given.name]
        tensors["histogram"], tensors["resolution"] = 1, RESOLUTION
        for tensor, x in zip(tensors, (given.old, given.new), strict=True):
            tensor["data"] = memory.place(x, misaligned=given.misaligned)
        if given.last is not None:
            pair["last"] = memory.place(given.last, writable=True)
        blocks, counters = -(-given.old.size // BLOCK), 1 << 9 + RESOLUTION
        at = [
            memory.place(pair),
            memory.place(np.array([(0, 0, 0, blocks)], ITEM)),
            memory.place(np.zeros(blocks, PAIR_PART), writable=True),
            memory.place(np.zeros(counters, np.uint64), writable=True),
        ]
        results = memory.place(np.zeros(1, PAIR_FOUND), writable=True)
        words = memory.place(np.zeros(WORDS * counters, np.uint16), writable=True)
        used = memory.place(np.zeros(1, np.uint64), writable=True)
        shared = sizes["sizeof(PairShared)"] + 4 * counters
        self.compare.launch(1, shared, np.array(at, np.uint64).tobytes())
        output = np.array((results, words, used, WORDS * counters, 0), OUTPUT)
        rest = np.array([at[0], at[2], at[3]], np.uint64)
        self.finish.launch(1, sizes["sizeof(FinishShared)"], rest.tobytes() + output.tobytes())
        assert not memory.take(at[3], np.uint64, counters).any(), "counters are left behind"
        found = memory.take(results, PAIR_FOUND, 1)[0]
        bins = bins_of(memory.take(words, np.uint16, int(found["words"])).tolist())
        last = None if given.last is None else memory.take(int(pair["last"][0]), given.last.dtype, given.old.size)
        return PairOutput(found["whole"], bins, last)


@pytest.fixture(scope="module")
def launcher(ptx_text: str, ptx_layout: Layout) -> PairLauncher:
    return PairLauncher(ptx_layout, parse(ptx_text))


def difference_of(given: PairInput) -> Array:
    """new - old in lanes."""
    if given.name == "int64":
        return np.array([float(int(y) - int(x)) for x, y in zip(given.old, given.new, strict=True)])
    lane = np.float64 if given.name == "float64" else np.float32
    return given.new.astype(lane) - given.old.astype(lane)


def in_lanes(products: Array) -> float:
    """Sums of blocks in 128 lanes, folded in a tree, one after another."""
    total = 0.0
    for block, first in enumerate(range(0, products.size, BLOCK)):
        part = products[first : first + BLOCK]
        lanes = np.zeros(128)
        for row in np.pad(part, (0, -part.size % 128)).reshape(-1, 128):
            lanes += row
        width = 64
        while width:
            lanes[:width] += lanes[width : 2 * width]
            width //= 2
        total = lanes[0] if block == 0 else total + lanes[0]
    return float(total)


def expected_totals(given: PairInput, difference: Array) -> dict[str, float]:
    x, y = given.old.astype(np.float64), given.new.astype(np.float64)
    equal = (given.old == given.new) | (np.isnan(x) & np.isnan(y))
    nonfinite = ~equal & ~np.isfinite(difference)
    both = np.isfinite(x) & np.isfinite(y)
    x, y = np.where(both, x, 0.0), np.where(both, y, 0.0)
    update = given.last is not None
    return {
        "equal": int(equal.sum()),
        "nonfinite": int(nonfinite.sum()),
        "dot": 0.0 if update else in_lanes(x * y),
        "old_squares": in_lanes(x * x),
        "new_squares": 0.0 if update else in_lanes(y * y),
        "old_exponent": 0,
        "new_exponent": 0,
    }


def wrong(given: PairInput, found: PairOutput) -> list[str]:
    """What differs from the contract."""
    with np.errstate(all="ignore"):
        difference = difference_of(given)
        totals = expected_totals(given, difference)
        columns = _core.pack([tensometer.summarize_many([difference], histogram=True, resolution=RESOLUTION)])
        along = in_lanes(difference.astype(np.float64) * given.last) if given.last is not None else 0.0
    summary = found.whole["summary"]
    said = [f"{name} is {summary[name]}" for name in SUMMARY.names or () if summary[name] != columns[name][0]]
    said += [
        f"{name} is {found.whole['totals'][name]}" for name, x in totals.items() if found.whole["totals"][name] != x
    ]
    if found.whole["along_last"] != along and not (np.isnan(along) and np.isnan(found.whole["along_last"])):
        said.append(f"along_last is {found.whole['along_last']} and not {along}")
    half = 1 << 8 + RESOLUTION
    bins = np.cumsum(columns["bin_step"].astype(np.int64)).tolist()
    counted = {
        b - half if b >= half else 2 * half - 1 - b: n for b, n in zip(bins, columns["bin_count"].tolist(), strict=True)
    }
    if {b: n for b, n in found.bins.items() if b % half < 255 << RESOLUTION} != counted:
        said.append("another histogram")
    if found.last is not None:
        unlike = (found.last.view(f"u{difference.itemsize}") != difference.view(f"u{difference.itemsize}")) & (
            ~np.isnan(found.last) | ~np.isnan(difference)
        )
        said += ["another difference is kept"] if unlike.any() else []
    return said


def make(rng: np.random.Generator, name: str, count: int, update: bool, holes: bool = False) -> PairInput:
    """Some elements change; with holes, some are not finite."""
    old = sample(rng, name, count)
    new = np.where(rng.random(count) < 0.4, old, sample(rng, name, count)).astype(old.dtype)
    if holes:
        for x, value in ((old, np.nan), (new, np.inf), (new, np.nan), (old, -np.inf)):
            x[rng.integers(count)] = value
        old[count // 2] = new[count // 2] = np.nan
    lane = np.float64 if name in ("float64", "int64") else np.float32
    return PairInput(name, old, new, rng.standard_normal(count).astype(lane) if update else None)


@pytest.mark.parametrize("update", [False, True])
@pytest.mark.parametrize("name", ["float32", "bfloat16", "float16"])
def test_fast_types(name: str, update: bool, launcher: PairLauncher, rng: np.random.Generator) -> None:
    for count, holes in ((BLOCK, False), (BLOCK + 130, False), (BLOCK, True)):
        given = make(rng, name, count, update, holes)
        assert not (said := wrong(given, launcher.run(given))), f"{count}: {'; '.join(said)}"


@pytest.mark.parametrize("name", ["float64", "int64", "uint8", "int16", "float8_e5m2"])
def test_other_types(name: str, launcher: PairLauncher, rng: np.random.Generator) -> None:
    for count, update in ((200, False), (129, True)):
        given = make(rng, name, count, update)
        assert not (said := wrong(given, launcher.run(given))), f"{count}: {'; '.join(said)}"


def test_misaligned(launcher: PairLauncher, rng: np.random.Generator) -> None:
    given = make(rng, "float32", BLOCK, True)
    given = PairInput(given.name, given.old, given.new, given.last, misaligned=4)
    assert not wrong(given, launcher.run(given))


@pytest.mark.parametrize(("old", "new"), [("sub.rn.f32", "add.rn.f32"), ("add.rn.f64", "sub.rn.f64")])
def test_planted_faults(old: str, new: str, ptx_text: str, ptx_layout: Layout, rng: np.random.Generator) -> None:
    given = make(rng, "float32", BLOCK, False)
    lines = ptx_text.split("\n")
    first = next(i for i, line in enumerate(lines) if "tensometer_compare" in line)
    kernel = PairLauncher(ptx_layout, parse(ptx_text))
    kernel.run(given)
    ran = {
        instruction.line
        for start in kernel.compare.executed
        for instruction in kernel.compare.entry.instructions[start : kernel.compare.segments[start].end]
    }
    places = [i for i in range(first, len(lines)) if old in lines[i] and i + 1 in ran]
    # The first additions are of magnitudes that decide on a pivot: a fault there seldom shows.
    place = places[len(places) // 2]
    lines[place] = lines[place].replace(old, new)
    try:
        found = PairLauncher(ptx_layout, parse("\n".join(lines))).run(given)
    except PtxError:
        return
    assert wrong(given, found), lines[place]
