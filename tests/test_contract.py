"""Whole summaries against the contract in NumPy, bit for bit: every dtype, instruction set and kind of data."""

import numpy as np
import pytest
import tensometer
from contract import BLOCK, FOLD, bits, bits_of, statistics
from samples import DTYPES, KINDS, sample

# Around a lane, a row, a block, and 3 blocks + 3.
LENGTHS = (0, 1, 2, 127, 128, 129, 255, 257, 4095, 4096, 4097, 3 * BLOCK + 3)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", DTYPES)
def test_every_dtype_at_every_length(name: str, kind: str, rng: np.random.Generator) -> None:
    for length in LENGTHS:
        x = sample(rng, name, length, kind)
        expected = bits(statistics(x))
        for isa in tensometer.isas():
            with tensometer.isa(isa):
                assert bits_of(tensometer.summarize(x)) == expected, (length, isa)


@pytest.mark.parametrize("name", ["float32", "float64", "bfloat16", "int64"])
def test_every_length_of_a_row_and_a_half(name: str, isa: str, rng: np.random.Generator) -> None:
    for length in range(200):
        x = sample(rng, name, length, "normal")
        assert bits_of(tensometer.summarize(x)) == bits(statistics(x)), length


@pytest.mark.parametrize("name", ["float32", "float16", "float64", "complex64", "int8"])
@pytest.mark.parametrize("blocks", [FOLD - 1, FOLD, FOLD + 1, 5 * FOLD + 3])
def test_groups(name: str, blocks: int, isa: str, rng: np.random.Generator) -> None:
    x = sample(rng, name, blocks * BLOCK + 17, "normal")
    assert bits_of(tensometer.summarize(x)) == bits(statistics(x))


def test_super_groups(rng: np.random.Generator) -> None:
    x = rng.standard_normal((FOLD * FOLD + FOLD + 1) * BLOCK + 5, np.float32)
    assert bits_of(tensometer.summarize(x)) == bits(statistics(x))


@pytest.mark.parametrize("name", ["float32", "float64", "float16"])
def test_every_misalignment(name: str, isa: str, rng: np.random.Generator) -> None:
    x = sample(rng, name, 2 * BLOCK + 77, "normal")
    expected = bits(statistics(x))
    memory = np.zeros(x.nbytes + 64, np.uint8)
    for offset in range(64):
        moved = memory[offset : offset + x.nbytes].view(x.dtype)
        moved[:] = x
        assert bits_of(tensometer.summarize(moved)) == expected, offset


def test_blocks_of_different_scale(isa: str, rng: np.random.Generator) -> None:
    # Each block is scaled by its own power of two; merging brings them to the larger one.
    scales = rng.permutation(np.array([1e-310, 1e-200, 0.0, 1e-150, 1.0, 1e150, 1e160, 1e300]))
    blocks = [rng.standard_normal(BLOCK) * scale for scale in scales]
    for order in range(len(blocks)):
        x = np.concatenate(blocks[order:] + blocks[:order])
        assert bits_of(tensometer.summarize(x)) == bits(statistics(x))


@pytest.mark.parametrize("special", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", ["float32", "float64", "bfloat16"])
def test_one_non_finite_element_anywhere(name: str, special: float, isa: str, rng: np.random.Generator) -> None:
    for length in (1, 130, 1000, BLOCK):
        clean = sample(rng, name, length, "normal")
        for at in {0, length // 3, length // 2, length - 1}:
            x = clean.copy()
            x[at] = special
            assert bits_of(tensometer.summarize(x)) == bits(statistics(x)), (length, at)
