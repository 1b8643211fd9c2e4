"""The kernels as nvcc emits them, executed instruction by instruction, against the engine on the CPU, bit for bit."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import nvcc
import pytest
import tensometer
from ptx import PtxError, parse
from ptx_launch import BLOCK, FOLD, SUMMARY, TABLES, Found, Input, Launcher, Layout, compile_ptx
from ptx_memory import Array
from samples import DTYPES, sample
from tensometer import _core

NVCC = nvcc.find()
pytestmark = pytest.mark.skipif(NVCC is None, reason="there is no nvcc: make cuda-test installs it")

LENGTHS = (1, 127, 128, 129, BLOCK, BLOCK + 1, 2 * BLOCK + 5)
MAIN = ("float32", "bfloat16", "float16", "float64", "int32", "int64", "uint8", "bool")
FAST = ("float32", "bfloat16", "float16", "float64")
MASK = (1 << 64) - 1
GOLDEN = 0x9E3779B97F4A7C15


@pytest.fixture(scope="module")
def launcher(ptx_text: str, ptx_layout: Layout) -> Launcher:
    return Launcher(ptx_layout, parse(ptx_text))


def mix(x: int) -> int:
    """csrc/hash.hpp."""
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9 & MASK
    x = (x ^ x >> 27) * 0x94D049BB133111EB & MASK
    return x ^ x >> 31


def fingerprint(found: int, dtype: int, shape: tuple[int, ...]) -> int:
    """csrc/fingerprint.cpp, of a tensor in logical order."""
    found = mix(found ^ GOLDEN * (dtype + 1) & MASK)
    for extent in shape:
        found = mix(found ^ (extent + GOLDEN & MASK))
    return found


def differences(found: Array, expected: dict[str, Any], row: int) -> list[str]:
    """Fields that differ in any bit."""
    return [
        f"{name} is {found[name]} and not {expected[name][row]}"
        for name in SUMMARY.names or ()
        if found[name].tobytes() != expected[name][row].tobytes()
    ]


def packed_bins(columns: dict[str, Any], resolution: int) -> dict[int, int]:
    """The histogram of one packed row, by the top bits of patterns, as the kernels count."""
    half = 1 << (8 + resolution)
    bins = np.cumsum(columns["bin_step"].astype(np.int64)).tolist()
    counts = columns["bin_count"].tolist()
    return {b - half if b >= half else 2 * half - 1 - b: n for b, n in zip(bins, counts, strict=True)}


def wrong(launcher: Launcher, given: Input, found: Found) -> list[str]:
    """What differs from the CPU's."""
    modes: dict[int, Any] = {0: False, 1: True, 2: "sampled"}
    options = {"histogram": modes[given.histogram], "resolution": given.resolution, "fingerprint": True}
    columns = _core.pack([tensometer.summarize_many([given.storage], **options)])
    said = []
    if given.fingerprint:
        mine = fingerprint(found.hash, launcher.layout.dtypes[given.name], given.storage.shape)
        said += ["another fingerprint"] if mine != int(columns["fingerprint"][0]) else []
    elif found.hash != 0:
        said.append("a hash that nobody asked for")
    if given.name in launcher.layout.tables:
        values, counts = np.unique(np.ascontiguousarray(given.storage).view(np.uint8), return_counts=True)
        expected = dict(zip(values.tolist(), counts.tolist(), strict=True))
        return said + (["other bytes"] if found.bins != expected else [])
    special = 255 << given.resolution
    bins = {b: n for b, n in found.bins.items() if b % (1 << 8 + given.resolution) < special}
    if bins != (packed_bins(columns, given.resolution) if given.histogram else {}):
        said.append("another histogram")
    return said + differences(found.summary, columns, 0)


def check(launcher: Launcher, inputs: list[Input], item_blocks: int = 8) -> list[Found]:
    """Launches, and compares with the CPU."""
    found = launcher.run(inputs, item_blocks)
    for given, mine in zip(inputs, found, strict=True):
        said = wrong(launcher, given, mine)
        assert not said, f"{given.name}, {given.storage.shape}: {'; '.join(said)}"
    return found


def check_records(found: Found, x: Array) -> None:
    """What the first kernel says of each block."""
    blocks = [x[first : first + BLOCK] for first in range(0, x.size, BLOCK)]
    columns = _core.pack([tensometer.summarize_many(blocks)])
    for i, record in enumerate(found.records):
        assert not (said := differences(record, columns, i)), f"block {i}: {'; '.join(said)}"


def test_tables_lie_as_in_cpp(ptx_layout: Layout) -> None:
    for name, table in TABLES.items():
        assert table.itemsize == ptx_layout.sizes[f"sizeof({name})"]
        for field, (_, offset, *_) in (table.fields or {}).items():
            assert offset == ptx_layout.sizes[f"offsetof({name}, {field})"], (name, field)


@pytest.mark.parametrize("name", MAIN)
def test_every_length(name: str, launcher: Launcher, rng: np.random.Generator) -> None:
    inputs = [Input(name, sample(rng, name, n)) for n in (0, *LENGTHS)]
    check(launcher, inputs + [Input(name, sample(rng, name, n, "bits")) for n in (3, 128, BLOCK + 1)])


@pytest.mark.parametrize("name", [name for name in DTYPES if name not in MAIN])
def test_other_types(name: str, launcher: Launcher, rng: np.random.Generator) -> None:
    check(launcher, [Input(name, sample(rng, name, n, "bits")) for n in (129, BLOCK + 3)])


@pytest.mark.parametrize("kind", ["huge", "tiny", "constant", "shifted"])
@pytest.mark.parametrize("name", ["float32", "bfloat16", "float64"])
def test_kinds(name: str, kind: str, launcher: Launcher, rng: np.random.Generator) -> None:
    check(launcher, [Input(name, sample(rng, name, n, kind)) for n in (130, BLOCK + 130)])


def at_every_position(rng: np.random.Generator, name: str, blocks: int) -> Array:
    """Ordinary blocks, in each of which the extremes and zeros of either sign are elsewhere, in the first row, the last
    or one between; of 16 blocks, everywhere in a load of 16 bytes, and in each load of a row."""
    x = sample(rng, name, blocks * BLOCK)
    for block, part in enumerate(np.split(x, blocks)):
        rows = part.reshape(-1, 128)
        row = rows[(0, -1, block % 32)[block % 3]]
        step = 128 * block // blocks + block % (128 // blocks)
        row[(step + np.array([0, 1, 5, 9])) % 128] = np.array([-7, 8, 0, -0.0])
    return x


@pytest.mark.parametrize("name", FAST)
def test_extremes_at_every_position(name: str, launcher: Launcher, rng: np.random.Generator) -> None:
    x = at_every_position(rng, name, 128 if name == "float32" else 16)
    check_records(check(launcher, [Input(name, x)])[0], x)


def with_a_pivot(x: Array) -> Array:
    """The same with all but zeros on one side, small ones, large ones, and both in every third block."""
    moved = np.abs(x)
    for block, part in enumerate(np.split(moved, x.size // BLOCK)):
        part[part != 0] = part[part != 0] / (8, 8, 2)[block % 3] + (0.25, 3, 1)[block % 3]
    return moved


@pytest.mark.parametrize("name", FAST)
def test_zeros_at_every_position_of_blocks_with_a_pivot(
    name: str, launcher: Launcher, rng: np.random.Generator
) -> None:
    x = with_a_pivot(at_every_position(rng, name, 18))
    found = check(launcher, [Input(name, x)])[0]
    check_records(found, x)
    assert all(record["zeros"] >= 2 for record in found.records)


@pytest.mark.parametrize("name", FAST)
def test_nonfinite_at_every_position(name: str, launcher: Launcher, rng: np.random.Generator) -> None:
    blocks = 32 if name == "float32" else 16
    kinds = (np.nan, np.inf, -np.inf)
    x = at_every_position(rng, name, blocks)
    for block, part in enumerate(np.split(x, blocks)):
        row = part.reshape(-1, 128)[(-1, 0, block % 32)[block % 3]]
        row[(128 * block // blocks + block % (128 // blocks)) % 128] = kinds[block // 2 % 3]
    found = check(launcher, [Input(name, x)])[0]
    check_records(found, x)
    assert all(record["nan"] + record["posinf"] + record["neginf"] == 1 for record in found.records)


@pytest.fixture(scope="module")
def oldest(ptx_folder: Path, ptx_layout: Layout) -> Launcher:
    """The PTX for the oldest architecture, which has no extremes of two halves at a time."""
    return Launcher(ptx_layout, parse(compile_ptx(str(NVCC), ptx_folder, 75)))


@pytest.mark.parametrize("name", FAST)
def test_the_oldest_architecture(name: str, oldest: Launcher, rng: np.random.Generator) -> None:
    x = at_every_position(rng, name, 4)
    y = at_every_position(rng, name, 4)
    y[::1000] = np.nan
    check(
        oldest, [Input(name, x), Input(name, np.abs(x) + x.dtype.type(1)), Input(name, with_a_pivot(x)), Input(name, y)]
    )


@pytest.mark.parametrize("name", FAST)
def test_extremes_that_are_zero(name: str, launcher: Launcher, rng: np.random.Generator) -> None:
    inputs = []
    for n in (100, BLOCK):
        x = np.abs(sample(rng, name, n))
        x[rng.random(n) < 0.3] = -0.0
        inputs += [Input(name, x), Input(name, -x), Input(name, np.zeros_like(x)), Input(name, -np.zeros_like(x))]
    check(launcher, inputs)


def test_every_length_of_a_row(launcher: Launcher, rng: np.random.Generator) -> None:
    check(launcher, [Input("float32", sample(rng, "float32", n, "holes")) for n in range(2, 131, 18)])


@pytest.mark.parametrize("item_blocks", [8, FOLD])
def test_groups(item_blocks: int, launcher: Launcher, rng: np.random.Generator) -> None:
    sizes = (FOLD * BLOCK + 2 * BLOCK + 17, 3)
    check(launcher, [Input("float32", sample(rng, "float32", n), 6) for n in sizes], item_blocks)


@pytest.mark.parametrize(("mode", "resolution"), [(0, 3), (1, 0), (1, 6), (2, 2), (2, 7)])
def test_histograms(mode: int, resolution: int, launcher: Launcher, rng: np.random.Generator) -> None:
    names = ("bfloat16", "float64", "int16", "int8")
    sizes = (20 * BLOCK + 9, BLOCK + 9, BLOCK + 9, 2 * BLOCK)
    inputs = [Input(name, sample(rng, name, n), resolution, mode) for name, n in zip(names, sizes, strict=True)]
    check(launcher, inputs, 16)


@pytest.mark.parametrize("name", ["bfloat16", "uint8", "int64"])
def test_pieces(name: str, launcher: Launcher, rng: np.random.Generator) -> None:
    """Hashes and bins of pieces add up to those of the whole, whose blocks are sampled by their numbers in it."""
    x = sample(rng, name, 21 * BLOCK)
    first, second = Input(name, x[: 15 * BLOCK], histogram=2), Input(name, x[15 * BLOCK :], histogram=2, first_block=15)
    inputs = [first, second, first, replace(second, joined=True), Input(name, x, histogram=2)]
    before, after, both, rest, whole = launcher.run(inputs)
    assert not wrong(launcher, inputs[-1], whole)
    assert (before.hash + after.hash - whole.hash) & MASK == (both.hash + rest.hash - whole.hash) & MASK == 0
    assert (both.bins, rest.bins) == (whole.bins, {})
    assert {b: before.bins.get(b, 0) + after.bins.get(b, 0) for b in {*before.bins, *after.bins}} == whole.bins
    assert rest.summary == after.summary


def test_layouts(launcher: Launcher, rng: np.random.Generator) -> None:
    inputs = []
    for name in ("float32", "complex64", "int64", "uint8"):
        x = sample(rng, name, 20 * 50 * 4).reshape(20, 50, 4)
        inputs.append(Input(name, x[::2, 1:40, :3], fingerprint=0))
    check(launcher, inputs)
    inputs = [
        Input(name, sample(rng, name, BLOCK + 77), misaligned=DTYPES[name].itemsize)
        for name in ("float32", "bfloat16", "float64", "uint8", "complex64")
    ]
    check(launcher, inputs)


# Planted faults: each is caught, by a difference or by the interpreter.


def swap(old: str, new: str) -> Callable[[str], str]:
    """Another ptx_text in its place."""
    return lambda line: line.replace(old, new)


def drop(line: str) -> str:
    """No instruction."""
    return ""


def without_addend(line: str) -> str:
    """The sum is its first term."""
    return re.sub(r"add\.rn\.(f\d+)(\s+%\w+), (%\w+), [^;]+", r"mov.\1\2, \3", line)


def beyond(line: str) -> str:
    """A load 16 bytes further on."""
    return re.sub(r"(?:\+(\d+))?\];", lambda match: f"+{int(match[1] or 0) + 16}];", line)


def narrower(line: str) -> str:
    """A shuffle by another step."""
    return re.sub(r"(\|%\w+, %\w+), %\w+", r"\1, 3", line)


FAULTS = {
    "max for min": (r"min\.f32", swap("min.f32", "max.f32")),
    "min for max": (r"max\.f32", swap("max.f32", "min.f32")),
    "max for min of halves": (r"min\.f16x2", swap("min.f16x2", "max.f16x2")),
    "less or equal": (r"setp\.eq\.f32", swap("setp.eq", "setp.le")),
    "dropped add": (r"add\.rn\.f32", without_addend),
    "dropped add in float64": (r"add\.rn\.f64", without_addend),
    "product for sum": (r"add\.rn\.f64", swap("add.rn", "mul.rn")),
    "another step": (r"shfl\.sync\.(bfly|down)\.b32", narrower),
    "another shuffle": (r"shfl\.sync\.(bfly|down)\.b32", lambda line: re.sub(r"\.(bfly|down)\.", ".up.", line)),
    "no barrier": (r"bar\.sync", drop),
    "no barrier of the warp": (r"bar\.warp\.sync", drop),
    "wrong place": (r"ld\.global\.nc\.v4\.u32", beyond),
    "misaligned": (r"ld\.global\.nc\.v4\.u32", lambda line: re.sub(r"(?:\+\d+)?\];", "+4];", line)),
    "uncounted": (r"atom\.shared\.add\.u32", drop),
    "unknown modifier": (r"mul\.rn\.f32", swap("mul.rn", "mul.rz")),
    "flushed": (r"add\.rn\.f32", swap("add.rn", "add.rn.ftz")),
}


@pytest.fixture(scope="module")
def small() -> list[Input]:
    """Blocks that show each place of the hot loop."""
    rng = np.random.default_rng(5)
    return [
        Input("float32", at_every_position(rng, "float32", 16)),
        Input("float32", sample(rng, "float32", 300, "holes")),
        Input("float64", sample(rng, "float64", 300, "holes")),
        Input("bfloat16", at_every_position(rng, "bfloat16", 4)),
        Input("float32", -np.zeros(BLOCK, np.float32)),
        Input("uint8", sample(rng, "uint8", 300)),
    ]


@pytest.fixture(scope="module")
def ran(ptx_text: str, ptx_layout: Layout, small: list[Input]) -> list[Any]:
    """The instructions that a faultless kernel runs over them."""
    launcher = Launcher(ptx_layout, parse(ptx_text))
    check(launcher, small)
    return launcher.executed(launcher.reduce)


def faulty(ptx_text: str, line: int, change: Callable[[str], str]) -> str:
    lines = ptx_text.split("\n")
    changed = change(lines[line - 1])
    assert changed != lines[line - 1], lines[line - 1]
    lines[line - 1] = changed
    return "\n".join(lines)


def is_caught(ptx_text: str, ptx_layout: Layout, inputs: list[Input]) -> bool:
    """Whether a kernel is refused, or differs in any block or in the whole."""
    try:
        found = check(Launcher(ptx_layout, parse(ptx_text)), inputs)
        for given, mine in zip(inputs, found, strict=True):
            if given.name not in ptx_layout.tables:
                check_records(mine, given.storage)
    except (PtxError, AssertionError):
        return True
    return False


@pytest.mark.parametrize("name", FAULTS)
def test_planted_faults(name: str, ptx_text: str, ptx_layout: Layout, small: list[Input], ran: list[Any]) -> None:
    pattern, change = FAULTS[name]
    places = [instruction for instruction in ran if re.fullmatch(pattern, instruction.opcode)]
    assert places
    # The last shuffles of each way are of magnitudes that decide on a pivot: a fault there seldom shows.
    # The first barrier of a warp guards what nothing has used before it.
    first = 1 if name == "no barrier of the warp" else 0
    place = places[first if "barrier" in name else len(places) // (2 if "another" in name else 3)]
    assert is_caught(faulty(ptx_text, place.line, change), ptx_layout, small), place
