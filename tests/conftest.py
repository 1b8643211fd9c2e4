"""What the tests share: a seeded generator, the instruction sets of this machine, and a cap on memory."""

import resource
import zlib
from collections.abc import Iterator

import numpy as np
import pytest
import tensometer

# A test that allocates without bound must fail alone, not take the machine with it. Data, not address space: memory
# maps of large files are read-only and free.
MEMORY_CAP = 4 << 30


def pytest_configure() -> None:
    """Caps the memory of this process and its children, as far as the system lets it."""
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
