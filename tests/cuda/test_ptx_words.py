"""The kernel that finishes tensors as nvcc emits it, executed instruction by instruction: the words of any counters."""

import numpy as np
import nvcc
import pytest
from ptx import parse
from ptx_launch import OUTPUT, RESULT, SUMMARY, TENSOR, WORDS, Launcher, Layout, bins_of

pytestmark = pytest.mark.skipif(nvcc.find() is None, reason="there is no nvcc: make cuda-test installs it")

# Where a count takes one word more, and the largest there can be.
EDGES = np.array([1, 0x7FFF, 0x8000, 0xFFFF, 0x10000, 0x3FFFFFFF, 0x40000000, 1 << 43], np.uint64)


@pytest.mark.parametrize("one_in", [1, 2, 50])
def test_words_tell_every_counter(one_in: int, ptx_text: str, ptx_layout: Layout, rng: np.random.Generator) -> None:
    """Of two tensors at once, one of them of bytes."""
    launcher = Launcher(ptx_layout, parse(ptx_text))
    memory, sizes = launcher.memory, (4096, 256)
    tensors = np.zeros(2, TENSOR)
    tensors["dtype"] = [ptx_layout.dtypes[name] for name in ("float32", "uint8")]
    tensors["histogram"], tensors["resolution"], tensors["first_counter"] = 1, 3, (0, sizes[0])
    filled = rng.integers(0, one_in, sum(sizes)) == 0
    counters = np.where(filled, rng.choice(EDGES, sum(sizes)), np.uint64(0))
    room, bytes_room = (WORDS * n for n in (sum(sizes), sizes[1]))
    results = memory.place(np.zeros(2, RESULT), writable=True)
    words = memory.place(np.zeros(room, np.uint16), writable=True)
    used = memory.place(np.zeros(2, np.uint64), writable=True)
    at = [
        memory.place(tensors),
        memory.place(np.zeros(1, SUMMARY), writable=True),
        memory.place(counters, writable=True),
        memory.place(np.zeros(2, np.uint64), writable=True),
    ]
    output = np.array((results, words, used, room, bytes_room), OUTPUT)
    given = np.array(at, np.uint64).tobytes() + output.tobytes()
    launcher.finish.launch(2, ptx_layout.sizes["sizeof(FinishShared)"], given)
    assert not memory.take(at[2], np.uint64, sum(sizes)).any()
    written = memory.take(words, np.uint16, room).tolist()
    for result, own in zip(memory.take(results, RESULT, 2), np.split(counters, [sizes[0]]), strict=True):
        bins = bins_of(written[int(result["first_word"]) :][: int(result["words"])])
        assert bins == {int(i): int(own[i]) for i in np.flatnonzero(own)}
