"""Forked processes reduce as their parents do, whatever threads there were at the time."""

import multiprocessing
import os
import signal
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import tensometer
import torch
from samples import bits, sample
from tensometer.capture.turns import Turns


@contextmanager
def forking() -> Iterator[None]:
    # Python 3.12 and later warn of forks of processes with threads, which is what these tests are about.
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*fork.*", DeprecationWarning)
        yield


def in_child(call: Callable[[], bytes]) -> bytes:
    """What a call returns in a forked child."""
    reader, writer = os.pipe()
    with forking():
        child = os.fork()
    if child == 0:
        signal.alarm(30)  # a child that hangs ends, and the test fails
        try:
            with os.fdopen(writer, "wb") as out:
                out.write(call())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as source:
        found = source.read()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0, "the child hangs or crashed"
    return found


@pytest.mark.parametrize("name", ["float32", "complex64", "int8"])
def test_children_and_their_children(name: str, rng: np.random.Generator) -> None:
    x = sample(rng, name, 1_200_000, "normal")
    expected = bits(x, 4)
    assert in_child(lambda: bits(x, 4)) == expected
    assert in_child(lambda: bits(x, None)) == expected
    assert in_child(lambda: in_child(lambda: bits(x, 4))) == expected
    assert in_child(lambda: bits(x, 2) and in_child(lambda: bits(x, 8))) == expected == bits(x, 4)


def test_forks_while_threads_reduce(rng: np.random.Generator) -> None:
    x = sample(rng, "float32", 1_200_000, "normal")
    expected, stop = bits(x, 4), threading.Event()

    def loop() -> bool:
        same = True
        while not stop.is_set():
            same = same and bits(x, 3) == expected
        return same

    with ThreadPoolExecutor(4) as pool:
        loops = [pool.submit(loop) for _ in range(4)]
        try:
            found = [in_child(lambda: bits(x, 4)) for _ in range(15)]
        finally:
            stop.set()
        assert all(future.result() for future in loops)
    assert found == [expected] * 15


def test_a_forked_child_need_not_wait_for_a_hook_of_its_parent() -> None:
    turns, inside, done = Turns(), threading.Event(), threading.Event()

    def hook() -> None:
        with turns.turn():
            inside.set()
            done.wait(60)

    def in_turn() -> bytes:
        with turns.turn() as first:
            return str(first).encode()

    other = threading.Thread(target=hook)
    other.start()
    inside.wait()
    assert in_child(in_turn) == b"True"
    done.set()
    other.join()
    with turns.turn():  # its own is not over in the child
        assert in_child(in_turn) == b"False"


def test_a_forked_child_need_not_wait_for_a_stream_of_its_parent() -> None:
    """Whose lock another thread holds, or has given back meanwhile."""
    stream, stop = tensometer.Accumulator("float32", threads=1, histogram=True), threading.Event()
    piece = np.ones(3_000_000, np.float32)

    def feed() -> None:
        while not stop.is_set():
            stream.update(piece)

    def asked() -> bytes:
        try:
            return str(stream.count % piece.size).encode()
        except RuntimeError as error:
            return str(error).encode()

    other = threading.Thread(target=feed)
    other.start()
    while stream.count == 0:
        time.sleep(0.001)
    found = {in_child(asked) for _ in range(10)}
    stop.set()
    other.join()
    assert found <= {b"0", b"this object was in use in another thread when the process was forked"}
    assert len(max(found)) > 1
    assert stream.count % piece.size == 0


def test_multiprocessing(rng: np.random.Generator) -> None:
    x = sample(rng, "float64", 600_000, "holes")
    expected = tensometer.summarize(x, histogram=True, threads=4)
    with forking(), multiprocessing.get_context("fork").Pool(2) as pool:
        futures = [pool.apply_async(tensometer.summarize, (x,), {"histogram": True, "threads": 4}) for _ in range(6)]
        assert [future.get(60) for future in futures] == [expected] * 6


@pytest.mark.filterwarnings("ignore:This DataLoader will create")  # more workers than CPUs
def test_workers_of_a_torch_loader() -> None:
    def reduced(index: int) -> tuple[bytes, int]:
        return bits(torch.arange(index, 400_000 + index, dtype=torch.float32), 4), os.getpid()

    expected = [reduced(index)[0] for index in range(8)]
    loader_of: Any = torch.utils.data.DataLoader  # its types know no plain range
    with forking():
        loaded = list(loader_of(range(8), batch_size=None, num_workers=2, collate_fn=reduced, timeout=60))
    assert [found for found, _ in loaded] == expected
    assert os.getpid() not in {process for _, process in loaded}
