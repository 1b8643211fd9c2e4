"""One answer on every instruction set, whoever forces it and whatever the floating-point environment of the caller."""

import ctypes
import ctypes.util
import itertools
import os
import pickle
import platform
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
import pytest
import tensometer
import torch
from samples import DTYPES, KINDS, Array, sample

NAMES = tensometer.isas()
ROWS, COLUMNS = 30, 410  # three blocks and a bit, and a unit of either dimension shorter than a block
EDGES = np.linspace(-3, 3, 50)


def table_bits(table: tensometer.SummaryTable) -> bytes:
    return b"".join(pickle.dumps(row) for row in table)


def number_bits(numbers: dict[str, object]) -> list[tuple[str, object]]:
    """A dictionary whose floats became their bytes: == tells zeros of different sign and takes NaN for equal."""
    return [(key, struct.pack("d", value) if isinstance(value, float) else value) for key, value in numbers.items()]


def results(x: Array, threads: int | None = None) -> dict[str, object]:
    """Every reduction of x, in forms that are equal only where all bits are."""
    matrix = x[: ROWS * COLUMNS].reshape(ROWS, COLUMNS)
    pieces = tensometer.Accumulator(histogram=True, fingerprint=True, threads=threads)
    for at in range(0, x.size, 5000):
        pieces.update(x[at : at + 5000])
    found: dict[str, object] = {
        "summary": pickle.dumps(tensometer.summarize(x, threads=threads)),
        "full": pickle.dumps(tensometer.summarize(x, histogram=True, fingerprint=True, threads=threads)),
        "coarse": pickle.dumps(tensometer.summarize(x, histogram="sampled", resolution=2, threads=threads)),
        "strided": pickle.dumps(tensometer.summarize(x[::-2], histogram=True, fingerprint=True, threads=threads)),
        "rows": table_bits(tensometer.summarize_units(matrix, 0, histogram=True, fingerprint=True, threads=threads)),
        "columns": table_bits(tensometer.summarize_units(matrix, 1, fingerprint=True, threads=threads)),
        "long columns": table_bits(tensometer.summarize_units(x[: x.size // 2 * 2].reshape(-1, 2), 1, threads=threads)),
        "many": table_bits(tensometer.summarize_many([x, x[1:], matrix.T], histogram=True, threads=threads)),
        "pieces": pickle.dumps(pieces.summary()),
    }
    if x.dtype.kind != "c":
        pair = tensometer.compare(x, x[::-1], histogram=True, threads=threads)
        counted = tensometer.histogram(x, EDGES, threads=threads)
        found["pair"] = number_bits(pair.to_dict())
        found["difference"] = pickle.dumps(pair.difference)
        found["counts"] = counted.counts.tobytes() + counted.edges.tobytes()
    return found


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", DTYPES)
def test_every_reduction_is_the_same(name: str, kind: str, rng: np.random.Generator) -> None:
    x = sample(rng, name, ROWS * COLUMNS + 5, kind)
    found = {}
    for isa in NAMES:
        with tensometer.isa(isa):
            found[isa] = results(x)
    for isa in NAMES:
        assert found[isa] == found[NAMES[0]], isa


@pytest.mark.parametrize("name", [name for name in DTYPES if not name.startswith("complex")])
def test_uniform_histograms_with_a_range_of_their_own(name: str, rng: np.random.Generator) -> None:
    x = sample(rng, name, 20_001, "normal")
    found = set()
    for isa in NAMES:
        with tensometer.isa(isa):
            counts, edges = tensometer.histogram(x, 37)
            found.add((counts.tobytes(), edges.tobytes(), edges.dtype.str))
    assert len(found) == 1


def test_the_list_is_ordered_and_its_own() -> None:
    tensometer.isas().clear()
    widest = {"x86_64": ["baseline", "avx2", "avx512"], "aarch64": ["neon"]}[platform.machine()]
    assert tensometer.isas() == NAMES
    assert widest[: len(NAMES)] == NAMES


# What forces an instruction set. Which one runs shows nowhere but in speed; but under a wrong TENSOMETER_ISA a summary
# raises unless something else forces one, and that tells entering and leaving apart.

PROBE = """
import threading
import numpy as np
import tensometer

x = np.ones(5000, np.float32)
names = tensometer.isas()
seen = []

def probe():
    try:
        seen.append(tensometer.summarize(x).count == 5000)
    except ValueError:
        seen.append(False)

def wait():
    with tensometer.isa(names[0]):
        yield

unused = tensometer.isa(names[0])
probe()                                   # 0: making one enters nothing
with tensometer.isa(names[-1]):
    probe()                               # 1: forced
    with tensometer.isa(names[0]):
        probe()                           # 2: forced twice
    probe()                               # 3: the outer one is back
    try:
        tensometer.isa("nonsense")
    except ValueError:
        pass
    probe()                               # 4: a wrong name changes nothing
    thread = threading.Thread(target=probe)
    thread.start()
    thread.join()                         # 5: forced for all threads
probe()                                   # 6: nothing is forced again
try:
    with tensometer.isa(names[0]), tensometer.isa(names[-1]):
        raise KeyError
except KeyError:
    pass
probe()                                   # 7: nor after an exception
with unused, unused:
    with unused:
        probe()                           # 8: one object, entered three times
    probe()                               # 9: left once
probe()                                   # 10: left as often as entered
generator = wait()
next(generator)
probe()                                   # 11
generator.close()
probe()                                   # 12: left by closing a generator
print(*map(int, seen), sep="")
"""

REPORT = """
import ml_dtypes
import numpy as np
import tensometer

calls = {
    "summarize": tensometer.summarize,
    "many": lambda x: tensometer.summarize_many([x]),
    "units": tensometer.summarize_units,
    "compare": lambda x: tensometer.compare(x, x),
    "histogram": lambda x: tensometer.histogram(x, 3, (0, 1)),
    "stream": lambda x: tensometer.Accumulator().update(x).summary(),
}
for name in tensometer.dtypes():
    dtype = np.dtype(getattr(ml_dtypes, name, name))
    for size in (0, 5, 300_000):
        x = np.zeros((size, 1), dtype)
        for call, function in calls.items():
            if dtype.kind == "c" and call in ("compare", "histogram"):
                continue
            try:
                function(x)
                found = ""
            except ValueError as error:
                found = str(error)
            print(name, size, call, found, sep="|")
"""

BITS = """
import pickle
import numpy as np
import tensometer

x = np.arange(-9000, 9000, dtype=np.float32) ** 3 / 7
print(pickle.dumps(tensometer.summarize(x, histogram=True, fingerprint=True)).hex())
"""


def started(script: str, isa: str) -> subprocess.Popen[str]:
    environment = os.environ | {"TENSOMETER_ISA": isa}
    pipe = subprocess.PIPE
    return subprocess.Popen([sys.executable, "-c", script], env=environment, text=True, stdout=pipe, stderr=pipe)


def output_of(process: subprocess.Popen[str]) -> str:
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "")
    return out


def test_the_environment_forces_any_and_no_other() -> None:
    x = np.arange(-9000, 9000, dtype=np.float32) ** 3 / 7
    expected = pickle.dumps(tensometer.summarize(x, histogram=True, fingerprint=True)).hex()
    # An empty variable is none.
    processes = [started(BITS, isa) for isa in (*NAMES, "")]
    assert [output_of(process).strip() for process in processes] == [expected] * (len(NAMES) + 1)


def test_blocks_nest_and_are_left_whatever_happens() -> None:
    assert output_of(started(PROBE, "nonsense")).strip() == "0111110011010"


@pytest.fixture(scope="module")
def report() -> list[list[str]]:
    """dtype, size, call and error of every call under a wrong TENSOMETER_ISA."""
    return [line.split("|") for line in output_of(started(REPORT, "sse9")).splitlines()]


def expected_error(where: str, name: str) -> str:
    return f"{where}: unknown instruction set '{name}'; this machine runs " + ", ".join(f"'{isa}'" for isa in NAMES)


def test_a_wrong_environment_is_an_error_that_lists_the_right_names(report: list[list[str]]) -> None:
    found = {line[3] for line in report if line[0] in ("float32", "float64", "bfloat16", "int64") and line[1] != "0"}
    assert found == {expected_error("TENSOMETER_ISA", "sse9")}


def test_a_wrong_environment_is_an_error_for_every_dtype_and_size(report: list[list[str]]) -> None:
    # One that tells itself only where a kernel happens to run would hide until the first tensor of another type.
    assert len(report) == (19 * 6 - 2 * 2) * 3
    silent = [line[:3] for line in report if line[3] != expected_error("TENSOMETER_ISA", "sse9")]
    assert not silent


@pytest.mark.parametrize("name", ["AVX2", " avx2", "baseline ", "sse2", "\N{GREEK SMALL LETTER ALPHA}"])
def test_wrong_names(name: str) -> None:
    with pytest.raises(ValueError, match="unknown instruction set") as caught:
        tensometer.isa(name)
    assert str(caught.value) == expected_error("isa", name)


def test_an_empty_name() -> None:
    with pytest.raises(ValueError, match="isa: unknown instruction set ''"):
        tensometer.isa("")


@pytest.mark.parametrize("name", [None, 2, 1.0, ["avx2"], NAMES])
def test_names_of_other_types(name: object) -> None:
    with pytest.raises(TypeError, match="name"):
        tensometer.isa(name)  # type: ignore[arg-type]


def test_entering_gives_the_object_and_leaving_hides_no_exception() -> None:
    forced = tensometer.isa(NAMES[0])
    with pytest.raises(RuntimeError, match="isa: left without having been entered"):
        forced.__exit__(None, None, None)
    with forced as entered:
        assert entered is forced
    error = LookupError("seen")
    with pytest.raises(LookupError) as caught, forced:
        raise error
    assert caught.value is error


def test_threads_that_force_and_threads_that_reduce(rng: np.random.Generator) -> None:
    tensors = [sample(rng, name, ROWS * COLUMNS + 5, "holes") for name in ("float32", "float64", "float16", "int8")]
    expected = [results(x) for x in tensors]
    done = threading.Event()

    def switch() -> None:
        for isa in itertools.cycle(NAMES):
            with tensometer.isa(isa):
                if done.is_set():
                    return

    switcher = threading.Thread(target=switch)
    switcher.start()
    try:
        with ThreadPoolExecutor(8) as pool:
            found = list(pool.map(results, tensors * 6))
    finally:
        done.set()
        switcher.join()
    assert found == expected * 6


# The caller's floating-point environment: the numbers of a call do not depend on it, and it is as before afterwards.

LIBM = ctypes.CDLL(ctypes.util.find_library("m"))
MODES = {
    "x86_64": {"down": 0x400, "up": 0x800, "toward zero": 0xC00},
    "aarch64": {"up": 0x400000, "down": 0x800000, "toward zero": 0xC00000},
}[platform.machine()]


@contextmanager
def flushing() -> Iterator[None]:
    """Sub-normal numbers are zero to this thread, as they are where torch.set_flush_denormal was called."""
    assert torch.set_flush_denormal(True)
    try:
        yield
        assert not (np.array([5e-310]) * 0.5).view(np.int64)[0], "the environment was not restored"
    finally:
        torch.set_flush_denormal(False)


@contextmanager
def rounding(mode: int) -> Iterator[None]:
    assert LIBM.fesetround(mode) == 0
    try:
        yield
        assert LIBM.fegetround() == mode, "the environment was not restored"
    finally:
        LIBM.fesetround(0)


def same_in_any_environment(call: Callable[[], object]) -> None:
    expected = call()
    with flushing():
        found = call()
    assert found == expected, "with sub-normals flushed"
    for name, mode in MODES.items():
        with rounding(mode):
            found = call()
        assert found == expected, f"rounding {name}"


@pytest.mark.parametrize("kind", ["normal", "tiny", "huge", "bits"])
@pytest.mark.parametrize("name", ["float64", "float32", "float16", "bfloat16", "float8_e5m2", "int64", "complex128"])
def test_reductions_in_any_environment(name: str, kind: str, isa: str, rng: np.random.Generator) -> None:
    x = sample(rng, name, ROWS * COLUMNS + 5, kind)
    same_in_any_environment(lambda: results(x))


def test_pool_threads_in_any_environment(rng: np.random.Generator) -> None:
    x = sample(rng, "float64", 600_000, "tiny")
    same_in_any_environment(lambda: results(x, threads=4))


def test_getters_in_any_environment(rng: np.random.Generator) -> None:
    old, new = (sample(rng, "float64", 5000, "tiny") for _ in range(2))
    summary, pair = tensometer.summarize(old, histogram=True), tensometer.compare(old, new, histogram=True)
    table, histogram = tensometer.summarize_many([old, new, old * 2]), summary.histogram
    assert histogram is not None
    edges = np.array([-1.0, -1e-310, 0.0, 3e-310, 1.0])

    def getters() -> list[object]:
        return [
            number_bits(summary.to_dict()),
            number_bits({name: getattr(summary, name) for name in table.columns}),
            number_bits(pair.to_dict()),
            [column.tobytes() for column in table.to_dict().values()],
            pickle.dumps(table.total()),
            pickle.dumps(summary.merge(table[1])),
            pickle.dumps(pair.merge(pair).difference),
            [struct.pack("d", value(q)) for value in (summary.quantile, histogram.quantile) for q in (0, 0.3, 0.99)],
            histogram.edges.tobytes(),
            histogram.to_uniform(edges).tobytes(),
            struct.pack("2d", summary.headroom(), summary.variance(1)),
            [summary.underflow("float32"), summary.subnormal("float32"), summary.overflow("float16")],
            pickle.dumps(pickle.loads(pickle.dumps(summary))),
        ]

    same_in_any_environment(getters)


def test_equality_where_sub_normals_are_flushed() -> None:
    # The least elements differ and nothing else does.
    one, other = (tensometer.summarize(np.array([least, 1.0])) for least in (1e-310, 2e-310))
    same = tensometer.summarize(np.array([1e-310, 1.0]))
    with flushing():
        found = one == other, one == same
    assert found == (False, True)


def test_text_where_sub_normals_are_flushed() -> None:
    old, new = np.array([1e-310, 5e-310, 0]), np.array([2e-310, 5e-310, 3e-310])
    summary, pair = tensometer.summarize(old), tensometer.compare(old, new)
    expected = repr(summary), repr(pair)
    with flushing():
        found = repr(summary), repr(pair)
    assert found == expected


@pytest.mark.parametrize("name", ["float64", "float32", "float16", "int8", "float8_e5m2"])
def test_uniform_histograms_in_any_environment(name: str, rng: np.random.Generator) -> None:
    x = sample(rng, name, 5000, "tiny")
    tiny = np.array([-1e-310, 1e-310, 1e-300])
    ranges = [(-1.0, 1.0)]
    if name not in ("float32", "float16"):  # whose edges NumPy rounds to that type, where the two are one number
        ranges.append((1e-310, 2e-310))

    def counted() -> list[bytes]:
        found = [tensometer.histogram(x, 7), tensometer.histogram(x, tiny), tensometer.histogram(x, tiny[1:])]
        found += [tensometer.histogram(x, 7, limits) for limits in ranges]
        return [one.counts.tobytes() + one.edges.tobytes() for one in found]

    same_in_any_environment(counted)
