"""What the tests share: a seeded generator, the instruction sets of this machine, and a cap on memory."""

import resource
import signal
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensometer
from checkpoint_files import write_safetensors
from tensometer import Monitor

# A test that allocates without bound must fail alone, not take the machine with it. Each process has all of it: with
# half of it threads did not start, which Python waits for without an end.
# Data, not address space: memory maps of large files are read-only and free.
MEMORY_CAP = 4 << 30


def pytest_configure() -> None:
    """Caps the memory of this process and of each child, as far as the system lets it; all heed interrupts."""
    # A shell's background jobs ignore them, and so would the commands that tests interrupt.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    if hard == resource.RLIM_INFINITY or hard > MEMORY_CAP:
        resource.setrlimit(resource.RLIMIT_DATA, (MEMORY_CAP, hard))


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> np.random.Generator:
    """A generator seeded by the test's own name: the same numbers in every run and in any order of tests."""
    return np.random.default_rng(zlib.crc32(request.node.nodeid.encode()))


@pytest.fixture(params=tensometer.isas())
def isa(request: pytest.FixtureRequest) -> Iterator[str]:
    """Each instruction set of this machine in turn, forced while the test runs."""
    with tensometer.isa(request.param):
        yield request.param


@pytest.fixture
def healthy(tmp_path: Path, rng: np.random.Generator) -> Path:
    """A checkpoint without anything worse than a note."""
    tensors = {"b.weight": rng.standard_normal((30, 40)).astype(np.float32), "a.bias": np.zeros(30, np.float32)}
    return write_safetensors(tmp_path / "healthy.safetensors", tensors)


@pytest.fixture
def broken(tmp_path: Path, rng: np.random.Generator) -> Path:
    """A checkpoint with NaN and a dead row."""
    x = rng.standard_normal((30, 40)).astype(np.float32)
    x[1, 2] = np.nan
    x[5] = 0
    return write_safetensors(tmp_path / "broken.safetensors", {"b.weight": x, "nothing": np.full(3, np.nan)})


@pytest.fixture
def every_step(tmp_path: Path) -> Iterator[Callable[..., Monitor]]:
    """A strict monitor that captures every step, closed in the end."""
    monitors = []

    def build(*collections: str, **settings: Any) -> Monitor:
        chosen = {"collections": list(collections)} if collections else {}
        monitors.append(Monitor(tmp_path, every=1, strict=True, **chosen, **settings))
        return monitors[-1]

    yield build
    for monitor in monitors:
        monitor.close()
