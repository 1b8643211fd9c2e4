"""TokenRatio."""

import numpy as np
from rule_steps import Bench, normal
from tensometer.rules.token_ratio import TokenRatio


def tokens(padded: float, seed: int = 0, most: int = 50) -> "np.ndarray[tuple[int, int], np.dtype[np.int64]]":
    found = np.random.default_rng(seed).integers(1, most, (16, 40))
    found[:, round(40 * (1 - padded)) :] = 0
    return found


def test_padding_is_found_at_the_third_step() -> None:
    bench = Bench(TokenRatio())
    (finding,) = bench.steps(20, inputs={"input.0": tokens(0.9)})
    assert (finding.step, finding.sentence) == (2, "input.0: 90% of the tokens are padding")


def test_some_padding_and_single_batches_are_none() -> None:
    bench = Bench(TokenRatio())
    assert bench.steps(20, inputs={"input.0": tokens(0.55)}) == []
    for step in range(60):
        assert bench.step(inputs={"input.0": tokens(0.9 if step % 3 == 0 and step > 10 else 0.3, step)}) == []


def test_masks_bits_and_measurements_are_none() -> None:
    bench = Bench(TokenRatio())
    inputs = {"input.mask": tokens(0.9, most=2), "input.bits": tokens(0.8, most=4), "input.x": 0 * normal(8, 8)}
    assert bench.steps(20, inputs=inputs) == []


def test_padding_that_an_embedding_or_a_mask_tells() -> None:
    bench = Bench(TokenRatio())
    inputs = {"input.0": tokens(0.0), "input.0/padding": 0.8, "input.1": tokens(0.9), "input.1/padding": 0.1}
    findings = bench.steps(20, inputs=inputs)
    assert [finding.sentence for finding in findings] == ["input.0: 80% of the tokens are padding"]
    mask = (tokens(0.7) > 0).astype(np.int64)
    (finding,) = Bench(TokenRatio()).steps(20, inputs={"input.attention_mask": mask, "input.input_ids": tokens(0.0)})
    assert finding.tensor == "input.attention_mask"
