"""The kernel that counts into given bins as nvcc emits it, executed instruction by instruction, against the CPU."""

import re

import numpy as np
import nvcc
import pytest
import tensometer
from ptx import Kernel, Memory, parse
from ptx_launch import BLOCK, REDUCE_THREADS, UNIFORM, Layout
from ptx_memory import BASE, Array
from samples import sample

pytestmark = pytest.mark.skipif(nvcc.find() is None, reason="there is no nvcc: make cuda-test installs it")

SHARED_BINS = 4096


class HistogramLauncher:
    """The kernel, for one tensor a launch."""

    def __init__(self, known: Layout, text: str) -> None:
        self.layout, self.memory = known, Memory()
        # Where parameters are read by an address that is computed, they are read from memory, which has them first.
        self.parameters = self.memory.place(np.zeros(1, UNIFORM))
        name = "tensometer_histogram_param_0"
        text = re.sub(rf"mov\.b64(\s+%rd\d+), {name};", rf"mov.u64\1, {self.parameters};", text)
        text = re.sub(r"ld\.param(\.\S+\s+[^\[;]*\[%)", r"ld.global\1", text)
        self.kernel = Kernel(parse(text), "tensometer_histogram", REDUCE_THREADS, self.memory)

    def run(self, name: str, x: Array, edges: Array, blocks: int) -> Array:
        """A strided view lies in what it steps over."""
        memory, bins = self.memory, edges.size - 1
        memory.used = memory.window
        memory.flags[:] = 0
        given = np.zeros(1, UNIFORM)
        memory.used = self.parameters - BASE + given.nbytes
        tensor = given["tensor"][0]
        tensor["count"], tensor["dtype"] = x.size, self.layout.dtypes[name]
        tensor["data"] = memory.place(x if x.flags.c_contiguous else x.base)
        if not x.flags.c_contiguous:
            tensor["dims"] = x.ndim
            tensor["extent"][: x.ndim], tensor["stride"][: x.ndim] = x.shape, x.strides
        given["edges"], given["per_unit"] = memory.place(edges), bins / (edges[-1] - edges[0])
        given["counts"] = memory.place(np.zeros(bins, np.uint64), writable=True)
        given["bins"], given["stride"] = bins, blocks
        used, memory.used = memory.used, memory.window
        assert memory.place(given) == self.parameters
        memory.used = used
        shared = UNIFORM.itemsize + (4 * bins if bins <= SHARED_BINS else 0)
        self.kernel.launch(blocks, shared, given.tobytes())
        return memory.take(int(given["counts"][0]), np.int64, bins)


@pytest.fixture(scope="module")
def launcher(ptx_text: str, ptx_layout: Layout) -> HistogramLauncher:
    return HistogramLauncher(ptx_layout, ptx_text)


EVEN = np.linspace(-2.0, 2.0, 11)
UNEVEN = np.array([-1.0, 0.0, 0.0, 0.25, 0.5, 2.0, 100.0])
MANY = np.linspace(-3.0, 3.0, SHARED_BINS + 2)


@pytest.mark.parametrize("name", ["float32", "bfloat16", "float16", "float64", "int32", "int64", "uint8", "bool"])
def test_every_bin(name: str, launcher: HistogramLauncher, rng: np.random.Generator) -> None:
    for count, blocks in ((1, 1), (257, 1), (BLOCK + 130, 2)):
        x = sample(rng, name, count)
        for edges in (EVEN, UNEVEN, MANY) if count == 257 else (EVEN,):
            expected = tensometer.histogram(x, edges).counts
            assert np.array_equal(launcher.run(name, x, edges, blocks), expected), (count, edges.size)


def test_edges_and_what_lies_outside(launcher: HistogramLauncher) -> None:
    x = np.concatenate([np.nextafter(EVEN, -np.inf), EVEN, np.nextafter(EVEN, np.inf), [np.nan, np.inf, -np.inf, -0.0]])
    assert np.array_equal(launcher.run("float64", x, EVEN, 1), tensometer.histogram(x, EVEN).counts)


def test_fewer_blocks_of_threads_than_of_elements(launcher: HistogramLauncher, rng: np.random.Generator) -> None:
    x = sample(rng, "float32", 2 * BLOCK + 5)
    assert np.array_equal(launcher.run("float32", x, EVEN, 2), tensometer.histogram(x, EVEN).counts)


def test_elements_that_lie_apart(launcher: HistogramLauncher, rng: np.random.Generator) -> None:
    base = sample(rng, "float32", 600).reshape(20, 30)
    assert np.array_equal(launcher.run("float32", base.T, EVEN, 1), tensometer.histogram(base, EVEN).counts)
