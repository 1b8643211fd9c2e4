"""Bugs for the kernels and their launcher, and the layer of tests that must find each: a test of the tests.

A bug is a text that takes another's place, which must be there exactly once. Layers are those of planting.py.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Bug:
    """tests: words, one of which is in the name of each test that is run; of pytest, what -k takes. message: a pattern
    of what they must say."""

    name: str
    layer: str
    file: str
    old: str
    new: str
    tests: str
    message: str


RACE = "WARNING: ThreadSanitizer: data race"

BUGS = (
    Bug(
        "no barrier before counters are used",
        "A plain",
        "csrc/cuda/kernels.cu",
        "  __syncthreads();\n  reduce_item(shared, records, tables, hashes);",
        "  reduce_item(shared, records, tables, hashes);",
        "bytes_and_complex",
        r"counters are not zero|\w+ is \S+ and not|another histogram",
    ),
    Bug(
        "divergent barrier",
        "A plain",
        "csrc/cuda/finish.hpp",
        "shared.found[threadIdx.x] = found;\n  __syncthreads();",
        "shared.found[threadIdx.x] = found;\n  if (found != 0) __syncthreads();",
        "bytes_and_complex",
        "__syncthreads: it waits for threads that have ended or wait elsewhere",
    ),
    Bug(
        "early exit of a lane",
        "A plain",
        "csrc/cuda/careful.hpp",
        "  mine.count = block.count;\n",
        "  mine.count = block.count;\n  if (mine.neginf != 0) return false;\n",
        "special_values",
        "__shfl_xor_sync: (a lane that it names has ended|it waits for threads that have ended or wait elsewhere)",
    ),
    Bug(
        "early exit of a warp",
        "A plain",
        "csrc/cuda/kernels.cu",
        "  reduce_item(shared, records, tables, hashes);\n",
        "  if (threadIdx.x / 32 >= shared.item.blocks) return;\n  reduce_item(shared, records, tables, hashes);\n",
        "any_order",
        "__syncthreads: it waits for threads that have ended or wait elsewhere",
    ),
    Bug(
        "wrong mask",
        "A plain",
        "csrc/cuda/warp.hpp",
        "value += __shfl_xor_sync(whole_warp, value, width);",
        "value += __shfl_xor_sync(0xffffu, value, width);",
        "any_order",
        "__shfl_xor_sync: it (does not name itself|reads a lane that is not named)",
    ),
    Bug(
        "max for min at one unrolled position",
        "A plain",
        "csrc/cuda/fast.hpp",
        "t.low = lower(t.low, v), t.high",
        "t.low = e == 1 && term == 2 ? higher(t.low, v) : lower(t.low, v), t.high",
        "special_values",
        r"min is \S+ and not",
    ),
    Bug(
        "dropped tail",
        "A plain",
        "csrc/cuda/count.hpp",
        "for (std::uint32_t i = thread; i < count; i += 32)",
        "for (std::uint32_t i = thread; i - thread + 32 <= count; i += 32)",
        "any_order",
        "another histogram",
    ),
    Bug(
        "records merged in another order",
        "A plain",
        "csrc/cuda/finish.hpp",
        "merge(whole, records[head + k * step]);",
        "merge(whole, records[head + (k % 2 == 0 || head + (k + 1) * step >= count ? k - k % 2 : k + 1) * step]);",
        "large",
        r"m2 is \S+ and not",
    ),
    Bug(
        "counters that are left",
        "A plain",
        "csrc/cuda/finish.hpp",
        "counters[i] = 0;",
        "if (i != begin) counters[i] = 0;",
        "bytes_and_complex",
        "counters are not zero behind a launch",
    ),
    Bug(
        "out of bounds",
        "A ASan+UBSan",
        "csrc/cuda/careful.hpp",
        "= i < count ? read(elements, i) : nan_value;",
        "= i <= count ? read(elements, i) : nan_value;",
        "misalignment",
        "AddressSanitizer: heap-buffer-overflow",
    ),
    Bug(
        "misaligned 16-byte load",
        "A ASan+UBSan",
        "csrc/cuda/bytes.hpp",
        "elements.dense() && reinterpret_cast<std::uintptr_t>(data) % sizeof(Words) == 0",
        "elements.dense()",
        "bytes_and_complex",
        "runtime error: (load of|reference binding to|constructor call on) misaligned address",
    ),
    Bug(
        "no barrier before an item is read",
        "A TSan",
        "csrc/cuda/kernels.cu",
        "item_size_of(static_cast<DType>(shared.tensor.dtype));\n  }\n  __syncthreads();",
        "item_size_of(static_cast<DType>(shared.tensor.dtype));\n  }",
        "together",
        RACE,
    ),
    Bug(
        "no barrier before records are written",
        "A TSan",
        "csrc/cuda/item.hpp",
        "  __syncthreads();\n  if (!is_bytes(shared.tensor)) write_records(shared, records);",
        "  if (!is_bytes(shared.tensor)) write_records(shared, records);",
        "together",
        RACE,
    ),
    Bug(
        "no barrier before what is known of a block's work is read",
        "A TSan",
        "csrc/cuda/whole.hpp",
        "  }\n  __syncwarp(whole_warp);\n}\n",
        "  }\n}\n",
        "together",
        RACE,
    ),
    Bug(
        "non-atomic update",
        "A TSan",
        "csrc/cuda/bytes.hpp",
        "atomicAdd(counters + *elements.at(i), 1u);",
        "counters[*elements.at(i)] += 1;",
        "together",
        RACE,
    ),
    Bug(
        "race between blocks",
        "A TSan",
        "csrc/cuda/count.hpp",
        "atomicAdd(table + i, static_cast<unsigned long long>(counters[i]));",
        "table[i] += counters[i];",
        "together",
        RACE,
    ),
    Bug(
        "no barrier before the exchange is read",
        "B",
        "csrc/cuda/fast.hpp",
        "+ e] = mine[e];\n  }\n  __syncwarp(whole_warp);",
        "+ e] = mine[e];\n  }",
        "test_extremes_at_every_position and float64",
        "PtxError: .*race",
    ),
    Bug(
        "misaligned 16-byte load",
        "B",
        "csrc/cuda/bytes.hpp",
        "elements.dense() && reinterpret_cast<std::uintptr_t>(data) % sizeof(Words) == 0",
        "elements.dense()",
        "test_layouts",
        "PtxError: .*not aligned",
    ),
    Bug(
        "contracted multiplications",
        "B",
        "tests/cuda/ptx_launch.py",
        "--fmad=false",
        "--fmad=true",
        "test_every_length and float32",
        r"PtxError: .*(mul|add)\.f(32|64) .*unknown instruction",
    ),
    Bug(
        "reused pinned slot",
        "C",
        "csrc/cuda/launcher.cpp",
        "  memory_->grow(slot.results, results_at + prepared.result_bytes);\n",
        "  memory_->grow(slots_[0].results, results_at + prepared.result_bytes);\n"
        "  slot.results = slots_[0].results;\n",
        "rings in_any_order",
        "launched.hpp:",
    ),
    Bug(
        "missing event wait",
        "C",
        "csrc/cuda/launcher.cpp",
        "    if (last_ != nullptr) driver.call(driver.stream_wait, stream, last_, 0u);\n",
        "",
        "rings in_any_order",
        "launched.hpp:.*, tensor",
    ),
    Bug(
        "stale pinned read",
        "C",
        "csrc/cuda/launcher.cpp",
        "if (status == constants::error_not_ready) return false;",
        "if (status == constants::error_not_ready) return true;",
        "rings",
        "launcher.poll",
    ),
    Bug(
        "results read back from elsewhere",
        "C",
        "csrc/cuda/launcher.cpp",
        "static_cast<void*>(slot.results.pointer)",
        "static_cast<void*>(slots_[0].results.pointer)",
        "rings",
        "launched.hpp:.*, tensor",
    ),
    Bug(
        "an error that is ignored",
        "C",
        "csrc/cuda/launcher.cpp",
        "driver.call(driver.event_record, slot.event, stream);",
        "driver.event_record.pointer(slot.event, stream);",
        "errors_of_every_call",
        r"was lost|launched.hpp:.* at call \d+, tensor",
    ),
)
