"""Any number of threads, from any number of threads: the same bits, and nothing hangs."""

import os
import pickle
import signal
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tensometer
import torch
from samples import DTYPES, REAL, Array, bits, sample
from scripts import output_of, started

THREADS = range(1, 9)
# Below 2**19 elements one thread does it all; a thread takes 16 blocks at a time, or up to four groups of 2**18.
SIZES = (2**19 - 1, 2**19, 4 * 2**18 + 4096 * 40 + 5)


@pytest.mark.parametrize("name", DTYPES)
def test_every_dtype(name: str, rng: np.random.Generator) -> None:
    x = sample(rng, name, max(SIZES), "holes")
    for size in SIZES:
        assert len({bits(x[:size], threads) for threads in (*THREADS, None)}) == 1, size


@pytest.mark.parametrize("name", ["float32", "float64", "bfloat16", "uint8"])
def test_millions_of_elements(name: str, rng: np.random.Generator) -> None:
    x = sample(rng, name, 5_000_003, "normal")
    assert len({bits(x, threads) for threads in THREADS}) == 1
    assert len({pickle.dumps(tensometer.summarize(x, threads=threads)) for threads in THREADS}) == 1
    assert len({pickle.dumps(tensometer.summarize(x, histogram="sampled", threads=t)) for t in THREADS}) == 1


@pytest.mark.parametrize("name", ["float32", "int16", "complex64"])
def test_layouts(name: str, rng: np.random.Generator) -> None:
    x = sample(rng, name, 900_000, "normal")
    cube, swapped = x.reshape(9, 1000, 100), x.astype(x.dtype.newbyteorder())
    for view in (x[::-2], cube.T, cube[:, 3:990], cube[:, ::3, ::-2], swapped, np.broadcast_to(x[:1000], (900, 1000))):
        assert len({bits(view, threads) for threads in THREADS}) == 1


@pytest.mark.parametrize("name", REAL)
def test_pairs_and_uniform_histograms(name: str, rng: np.random.Generator) -> None:
    x = sample(rng, name, 700_001, "normal")
    edges = np.array([-2.0, -1.0, 0.0, 0.001, 1.0, 5.0])
    found = set()
    for threads in THREADS:
        pair = tensometer.compare(x, x[::-1], histogram=True, threads=threads)
        counted = [tensometer.histogram(x, bins, threads=threads) for bins in (50, edges)]
        numbers = np.array([pair.cosine, pair.relative_update, pair.old_l2, pair.new_l2, pair.equal])
        found.add(pickle.dumps((pair.difference, numbers, [(one.counts, one.edges) for one in counted])))
    assert len(found) == 1


def test_streams(rng: np.random.Generator) -> None:
    x = sample(rng, "float32", 1_500_000, "holes")
    expected = bits(x, 1)
    for threads in THREADS:
        stream = tensometer.Accumulator(histogram=True, fingerprint=True, threads=threads)
        for piece in np.split(x, [5, 300_000, 1_300_001]):
            stream.update(piece)
        assert pickle.dumps(stream.summary()) == expected


# How many threads: the argument, else the variable, else the CPUs that this process may use.


@pytest.mark.parametrize("threads", [np.int8(3), np.uint64(3), np.array(3), torch.tensor(3), 1024])
def test_right_numbers(threads: int) -> None:
    x = np.ones(200_000, np.float32)
    assert tensometer.summarize(x, threads=threads) == tensometer.summarize(x)


def entry_points(x: Array, threads: int | None = None) -> list[Callable[[], object]]:
    return [
        lambda: tensometer.summarize(x, threads=threads),
        lambda: tensometer.summarize_many([x, x], threads=threads),
        lambda: tensometer.summarize_units(x, threads=threads),
        lambda: tensometer.compare(x, x, threads=threads),
        lambda: tensometer.histogram(x, 10, (0, 1), threads=threads),
        lambda: tensometer.Accumulator("float32", threads=threads).update(x),
    ]


@pytest.mark.parametrize("threads", [0, -1, 1025, 2**31, 2**64, -(2**100)])
@pytest.mark.parametrize("size", [0, 300_000])
def test_numbers_out_of_range(threads: int, size: int) -> None:
    for call in entry_points(np.ones((1, size), np.float32), threads):
        with pytest.raises(ValueError, match=f"^threads: {threads} is not between 1 and 1024$"):
            call()


@pytest.mark.parametrize("threads", ["2", 2.0, True, [2], b"2", np.array([2, 3]), np.float32(2)])
def test_what_is_no_number_of_threads(threads: object) -> None:
    with pytest.raises(TypeError, match=r"^threads: .* is not a whole number$"):
        tensometer.summarize(np.ones(3), threads=threads)  # type: ignore[arg-type]


# How many threads the core started, by what the system counts.
COUNTING = """
import os
import numpy as np
import tensometer

def tasks():
    return len(os.listdir("/proc/self/task"))

def started(x, **options):
    before = tasks()
    try:
        tensometer.summarize(x, **options)
    except ValueError as error:
        return str(error)
    return str(tasks() - before)

small, large = np.ones(5, np.float32), np.ones(2_000_000, np.float32)
"""
WRONG = ["two", "0", "-1", "1025", "1.5", "4 ", "99999999999999999999"]


@pytest.fixture(scope="module")
def wrong_variables() -> dict[str, list[str]]:
    """For every wrong TENSOMETER_NUM_THREADS: what an argument, a large tensor and a small one give."""
    script = COUNTING + "print(started(large, threads=2), started(large), started(small), sep='|')"
    processes = {value: started(script, TENSOMETER_NUM_THREADS=value) for value in WRONG}
    return {value: output_of(process).strip().split("|") for value, process in processes.items()}


@pytest.mark.parametrize("value", WRONG)
def test_a_wrong_variable(value: str, wrong_variables: dict[str, list[str]]) -> None:
    text = f"TENSOMETER_NUM_THREADS: '{value}' is not a whole number from 1 to 1024"
    assert wrong_variables[value][:2] == ["1", text]


def test_a_wrong_variable_and_tensors_too_small_for_threads(wrong_variables: dict[str, list[str]]) -> None:
    # The same error, which would otherwise wait for the first large tensor.
    assert all(found[2] == found[1] for found in wrong_variables.values())


def test_the_variable_and_the_affinity() -> None:
    # The caller is one of the threads, and those that were started once stay.
    count = "print(started(large), started(large), started(large, threads=5))"
    by_number = [started(COUNTING + count, TENSOMETER_NUM_THREADS=number) for number in ("1", "3", "")]
    pinned = started(COUNTING + "os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n" + count)
    one, three, default = map(output_of, by_number)
    assert (one, three, output_of(pinned)) == ("0 0 4\n", "2 0 2\n", "0 0 4\n")
    assert int(default.split()[0]) < len(os.sched_getaffinity(0))


def test_fewer_threads_than_wanted_give_the_same() -> None:
    # No room for the stack of another thread.
    script = """import resource
expected = tensometer.summarize(large, threads=1)
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (4 << 20), resource.RLIM_INFINITY))
print(tensometer.summarize(large, threads=8) == expected, tasks())"""
    assert output_of(started(COUNTING + script)) == "True 1\n"


def test_many_callers(rng: np.random.Generator) -> None:
    tensors = [sample(rng, name, 300_000 + index, "normal") for index, name in enumerate(DTYPES)]
    expected = [bits(x, 1) for x in tensors]
    jobs = [(x, threads) for threads in (1, 2, 4, 8, None) for x in tensors]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda job: bits(*job), jobs)) == expected * 5


def test_one_stream_fed_by_many_threads() -> None:
    # The order of pieces is anybody's guess, so what is exact in any order: whole numbers.
    pieces = [np.full(10_000, value, np.int32) for value in range(-50, 50)]
    stream = tensometer.Accumulator("int32", histogram=True, threads=2)
    with ThreadPoolExecutor(8) as pool:
        counts = list(pool.map(lambda piece: (stream.update(piece).count, stream.summary().count), pieces))
    assert all(10_000 <= seen <= later <= 1_000_000 for seen, later in counts)
    summary, whole = stream.summary(), tensometer.summarize(np.concatenate(pieces), histogram=True)
    assert (summary.count, summary.min, summary.max, summary.l1) == (1_000_000, -50, 49, whole.l1)
    assert summary.histogram == whole.histogram


def test_other_threads_run_meanwhile() -> None:
    # With this interval Python hands its lock over only where it is let go of.
    x = np.ones((1000, 1000), np.float32)
    turn, ready, seen = threading.Lock(), threading.Event(), threading.Event()

    def wait() -> None:
        ready.set()
        with turn:
            seen.set()

    def lets_it_run(call: Callable[[], object]) -> bool:
        for _ in range(1000):
            call()
            if seen.is_set():
                return True
        return False

    interval = sys.getswitchinterval()
    for call in entry_points(x):
        seen.clear()
        ready.clear()
        turn.acquire()
        other = threading.Thread(target=wait)
        other.start()
        ready.wait()
        time.sleep(0.001)  # the other thread goes to sleep on its lock
        sys.setswitchinterval(1000)
        try:
            turn.release()
            ran = lets_it_run(call)
        finally:
            sys.setswitchinterval(interval)
        other.join()
        assert ran


def test_an_interrupt_comes_through_and_leaves_nothing_behind(rng: np.random.Generator) -> None:
    x = sample(rng, "float32", 1_000_000, "normal")
    expected, running = bits(x, 4), threading.Event()

    def interrupt() -> None:
        running.wait()
        signal.raise_signal(signal.SIGINT)

    def endless() -> None:
        while True:
            bits(x, 4)
            running.set()

    handler = signal.signal(signal.SIGINT, signal.default_int_handler)  # it is ignored where the tests run with nohup
    try:
        for _ in range(3):
            running.clear()
            other = threading.Thread(target=interrupt)
            other.start()
            with pytest.raises(KeyboardInterrupt):
                endless()
            other.join()
            assert bits(x, 4) == expected
    finally:
        signal.signal(signal.SIGINT, handler)


# Processes.


def test_threads_begin_together() -> None:
    """What is imported at the first call is imported by one of them."""
    script = """
import array, threading, tensometer
x, start = array.array("f", [1.0] * 10), threading.Barrier(4)
def call():
    start.wait()
    tensometer.summarize(x)
threads = [threading.Thread(target=call) for _ in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print("all")
"""
    for _ in range(3):
        assert output_of(started(script)) == "all\n"
