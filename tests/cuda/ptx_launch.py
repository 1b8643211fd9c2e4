"""The tables of csrc/cuda/abi.hpp as NumPy types, and the kernels launched over them in the PTX interpreter."""

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ptx import Kernel, Memory, Module
from ptx_calls import expand
from ptx_memory import Array

ROOT = Path(__file__).resolve().parent.parent.parent
BLOCK, FOLD = 4096, 64
REDUCE_THREADS, FINISH_THREADS = 256, 128
SHARED_RESOLUTION = 3
WORDS = 5  # that a bin takes at most; how many all may take, emulation tries

TENSOR = np.dtype(
    [("data", "u8"), ("count", "u8"), ("extent", "u8", 4), ("stride", "i8", 4)]
    + [(name, "u8") for name in ("first_record", "first_counter", "first_block")]
    + [(name, "u1") for name in ("dtype", "histogram", "resolution", "fingerprint")]
    + [("dims", "u2"), ("grouped", "u1"), ("joined", "u1")],
    align=True,
)
ITEM = np.dtype([("first_block", "u8"), ("record", "u8"), ("tensor", "u4"), ("blocks", "u4")], align=True)
SUMMARY = np.dtype(
    [(name, "u8") for name in ("count", "zeros", "negatives", "nan", "posinf", "neginf")]
    + [(name, "f8") for name in ("min", "max", "mean", "m2", "abs_sum")]
    + [(name, "i8") for name in ("exponent", "integer_min", "integer_max")],
    align=True,
)
RESULT = np.dtype([("summary", SUMMARY), ("hash", "u8"), ("first_word", "u8"), ("words", "u8")], align=True)
OUTPUT = np.dtype(
    [("results", "u8"), ("words", "u8"), ("used", "u8"), ("room", "u8"), ("bytes_room", "u8")], align=True
)
TENSOR_PAIR = np.dtype([("tensors", TENSOR, 2), ("last", "u8")], align=True)
PAIR_TOTALS = np.dtype(
    [(name, "u8") for name in ("equal", "nonfinite")]
    + [(name, "f8") for name in ("dot", "old_squares", "new_squares")]
    + [(name, "i8") for name in ("old_exponent", "new_exponent")],
    align=True,
)
PAIR_PART = np.dtype([("summary", SUMMARY), ("totals", PAIR_TOTALS), ("along_last", "f8")], align=True)
UNIFORM = np.dtype(
    [("tensor", TENSOR), ("edges", "u8"), ("counts", "u8"), ("per_unit", "f8"), ("bins", "u4"), ("stride", "u4")],
    align=True,
)
PAIR_FOUND = np.dtype([("whole", PAIR_PART), ("first_word", "u8"), ("words", "u8")], align=True)
TABLES = {"Tensor": TENSOR, "Item": ITEM, "Summary": SUMMARY, "Result": RESULT, "Output": OUTPUT}
TABLES |= {
    "Uniform": UNIFORM,
    "TensorPair": TENSOR_PAIR,
    "PairTotals": PAIR_TOTALS,
    "PairPart": PAIR_PART,
    "PairFound": PAIR_FOUND,
}


@dataclass(frozen=True)
class Layout:
    """What the headers say: sizes, offsets of fields, element types in their order, and which are counted by byte."""

    sizes: dict[str, int]
    dtypes: dict[str, int]
    tables: set[str]


def layout(folder: Path) -> Layout:
    """Asks a C++ compiler."""
    asked = [f"sizeof({name})" for name in (*TABLES, "Shared", "FinishShared", "PairShared")]
    asked += [f"offsetof({name}, {field})" for name, table in TABLES.items() for field in table.fields or ()]
    rows = "".join(f'  std::cout << "{text} = " << {text} << "\\n";\n' for text in asked)
    source = f"""#include <cstddef>
#include <iostream>
#include "cuda/pair_tables.hpp"
using namespace tensometer;
using namespace tensometer::cuda;
int main() {{
{rows}  for (const DTypeRow& row : dtype_rows) std::cout << row.name << " " << (row.lanes == Lanes::table) << "\\n";
}}
"""
    (folder / "layout.cpp").write_text(source)
    command = ["g++", "-std=c++20", f"-I{ROOT / 'csrc'}", "-o", str(folder / "layout"), str(folder / "layout.cpp")]
    subprocess.run(command, check=True)
    said = subprocess.run([folder / "layout"], check=True, capture_output=True, text=True).stdout.splitlines()
    sizes = dict(line.split(" = ") for line in said if " = " in line)
    dtypes = [line.split() for line in said if " = " not in line]
    return Layout(
        {name: int(value) for name, value in sizes.items()},
        {name: i for i, (name, _) in enumerate(dtypes)},
        {name for name, table in dtypes if table == "1"},
    )


@dataclass(frozen=True)
class Input:
    """A tensor: its type by name, its elements' storage, and how it is reduced. Strided: `storage` is of any shape. A
    piece of one: how many blocks lie before it, and whether it is counted with the one before it in the table."""

    name: str
    storage: Array
    resolution: int = 3
    histogram: int = 1
    fingerprint: int = 1
    misaligned: int = 0
    first_block: int = 0
    joined: bool = False


@dataclass(frozen=True)
class Found:
    """What the kernels say of a tensor. Records: what the first kernel said of each of its blocks."""

    summary: Array
    hash: int
    bins: dict[int, int]
    records: Array


def bins_of(words: list[int]) -> dict[int, int]:
    """Bins and their counts, of words as csrc/cuda/bin_words.hpp has them."""
    bins: dict[int, int] = {}
    bin = i = 0
    while i < len(words):
        if words[i] == 0:
            bin, i = words[i + 1], i + 2
        assert bin > max(bins, default=-1), "bins do not ascend"
        last = next(k for k in range(i, len(words)) if words[k] < 1 << 15)
        groups = [word % (1 << 15) for word in words[i : last + 1]]
        bins[bin] = sum(group << 15 * k for k, group in enumerate(groups))
        assert groups[-1] != 0, "a count ends with nothing"
        bin, i = bin + 1, last + 1
    return bins


class Launcher:
    """Both kernels of a module; keeps which of their instructions ran."""

    def __init__(self, known: Layout, module: Module) -> None:
        self.layout, self.module = known, module
        self.memory = Memory()
        self.reduce = Kernel(module, "tensometer_reduce", REDUCE_THREADS, self.memory)
        self.finish = Kernel(module, "tensometer_finish", FINISH_THREADS, self.memory)

    def plan(self, inputs: list[Input], item_blocks: int) -> tuple[Array, Array, int, int, int]:
        """Tensors, items, records, counters, and counters in shared memory at most, as csrc/cuda/plan.cpp has them."""
        tensors, items = np.zeros(len(inputs), TENSOR), []
        records = counters = shared = 0
        for i, each in enumerate(inputs):
            tensor, x = tensors[i], each.storage
            tensor["count"], tensor["dtype"] = x.size, self.layout.dtypes[each.name]
            tensor["histogram"], tensor["resolution"] = each.histogram, each.resolution
            tensor["fingerprint"], tensor["grouped"] = each.fingerprint, item_blocks == FOLD
            tensor["first_block"], tensor["joined"] = each.first_block, each.joined
            tensor["first_record"], tensor["first_counter"] = records, tensors[i - 1]["first_counter"]
            tensor["data"] = self.memory.place(_whole(x), misaligned=each.misaligned)
            if not x.flags.c_contiguous:
                tensor["dims"] = x.ndim
                tensor["extent"][: x.ndim], tensor["stride"][: x.ndim] = x.shape, x.strides
            table = each.name in self.layout.tables
            size = 256 if table else each.histogram and 1 << (9 + each.resolution)
            if not each.joined:
                tensor["first_counter"] = counters
                counters += size
            if table or each.resolution <= SHARED_RESOLUTION:
                shared = max(shared, size)
            blocks = -(-x.size // BLOCK)
            groups = blocks // FOLD if item_blocks == FOLD else 0
            for first in range(0, blocks, item_blocks):
                group = first // FOLD
                record = group if group < groups else groups + first - groups * FOLD
                items.append((first, records + record, i, min(item_blocks, blocks - first)))
            records += groups + blocks - groups * FOLD
        return tensors, np.array(items, ITEM), records, counters, shared

    def run(self, inputs: list[Input], item_blocks: int = 8) -> list[Found]:
        """Launches reduce, then finish."""
        self.memory.used = self.memory.window
        self.memory.flags[:] = 0
        tensors, items, count, counters, shared = self.plan(inputs, item_blocks)
        memory = self.memory
        bytes_room = WORDS * 256 * sum(each.name in self.layout.tables for each in inputs)
        at = {
            "tensors": memory.place(tensors),
            "items": memory.place(items),
            "records": memory.place(np.zeros(max(count, 1), SUMMARY), writable=True),
            "tables": memory.place(np.zeros(max(counters, 1), np.uint64), writable=True),
            "hashes": memory.place(np.zeros(len(inputs), np.uint64), writable=True),
            "results": memory.place(np.zeros(len(inputs), RESULT), writable=True),
            "words": memory.place(np.zeros(max(WORDS * counters, 1), np.uint16), writable=True),
            "used": memory.place(np.zeros(2, np.uint64), writable=True),
        }
        given = np.array([at[name] for name in ("tensors", "items", "records", "tables", "hashes")], np.uint64)
        self.reduce.launch(len(items), self.layout.sizes["sizeof(Shared)"] + 4 * shared, given.tobytes())
        records = memory.take(at["records"], SUMMARY, count)
        given = np.array([at[name] for name in ("tensors", "records", "tables", "hashes")], np.uint64)
        output = np.array((at["results"], at["words"], at["used"], WORDS * counters, bytes_room), OUTPUT)
        shared_bytes = self.layout.sizes["sizeof(FinishShared)"]
        self.finish.launch(len(inputs), shared_bytes, given.tobytes() + output.tobytes())
        assert not memory.take(at["tables"], np.uint64, counters).any(), "counters are left behind"
        assert not memory.take(at["hashes"], np.uint64, len(inputs)).any(), "hashes are left behind"
        return self._found(tensors, records, at, counters)

    def _found(self, tensors: Array, records: Array, at: dict[str, int], counters: int) -> list[Found]:
        results = self.memory.take(at["results"], RESULT, len(tensors))
        words = self.memory.take(at["words"], np.uint16, WORDS * counters).tolist()
        ends = [*tensors["first_record"][1:].tolist(), len(records)]
        found = []
        for tensor, result, end in zip(tensors, results, ends, strict=True):
            counted = bins_of(words[int(result["first_word"]) :][: int(result["words"])])
            mine = records[int(tensor["first_record"]) : end]
            found.append(Found(result["summary"], int(result["hash"]), counted, mine))
        return found

    def executed(self, kernel: Kernel) -> list[Any]:
        """The instructions of a kernel that have run."""
        return [
            instruction
            for first in sorted(kernel.executed)
            for instruction in kernel.entry.instructions[first : kernel.segments[first].end]
        ]


def _whole(x: Array) -> Array:
    """What a tensor lies in: itself, or of a view all that it steps over."""
    if x.flags.c_contiguous:
        return x
    last = sum((extent - 1) * stride for extent, stride in zip(x.shape, x.strides, strict=True))
    return np.lib.stride_tricks.as_strided(x, (last // x.itemsize + 1,), (x.itemsize,))


def compile_ptx(nvcc: str, folder: Path, architecture: int) -> str:
    """The PTX of the kernels, without calls."""
    target = folder / f"kernels_{architecture}.ptx"
    flags = ["-std=c++20", "--fmad=false", "--expt-relaxed-constexpr", f"-arch=compute_{architecture}", "-ptx"]
    flags += [f"-I{ROOT / 'csrc'}"]
    subprocess.run([nvcc, *flags, "-o", str(target), str(ROOT / "csrc" / "cuda" / "kernels.cu")], check=True)
    return expand(re.sub(r"\r\n?", "\n", target.read_text()))
