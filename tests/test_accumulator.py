"""Streams: the bits of the whole wherever they are cut, exact counts when merged, and nothing lost in a pickle."""

import copy
import math
import pickle
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensometer
import torch
from contract import BLOCK, FOLD, bits, bits_of, statistics
from hypothesis import given
from hypothesis import strategies as st
from references import exact
from samples import DTYPES, KINDS, REAL, STEADY, independent, sample
from tensometer import Accumulator

Array = np.ndarray[Any, np.dtype[Any]]
# Around rows, blocks and groups.
CUTS = st.lists(
    st.sampled_from([0, 1, 7, 127, 128, 129, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK, FOLD * BLOCK]), max_size=9
)


def fed(x: Array, cuts: list[int], **options: Any) -> Accumulator:
    """The elements of x in pieces of the sizes given, and the rest."""
    stream = Accumulator(x.dtype.name, **options)
    at = 0
    for size in cuts:
        stream.update(x[at : at + size])
        at = min(at + size, x.size)
    return stream.update(x[at:])


@STEADY
@given(st.sampled_from(list(DTYPES)), st.sampled_from(KINDS), CUTS, st.integers(0, FOLD * BLOCK + 3), st.integers(1, 3))
def test_cut_anywhere(name: str, kind: str, cuts: list[int], size: int, threads: int) -> None:
    x = sample(np.random.default_rng(size), name, size, kind)
    options = {"histogram": True, "fingerprint": True, "threads": threads}
    whole = tensometer.summarize(x, **options)  # type: ignore[arg-type]
    assert fed(x, cuts, **options).summary() == whole
    assert bits_of(whole) == bits(statistics(x))


@pytest.mark.parametrize("name", ["float32", "bfloat16", "float64", "int64"])
@pytest.mark.parametrize("mode", [True, "sampled"])
def test_long_streams(name: str, mode: bool, isa: str, rng: np.random.Generator) -> None:
    x = sample(rng, name, 3 * FOLD * BLOCK + 1234)
    whole = tensometer.summarize(x, histogram=mode)
    for step in (100_003, BLOCK * FOLD, 5 * BLOCK + 1):
        assert fed(x, [step] * (x.size // step), histogram=mode).summary() == whole


def test_pieces_of_any_layout(rng: np.random.Generator) -> None:
    x = sample(rng, "float32", 300 * 500).reshape(300, 500)
    stream = Accumulator("float32")
    for row in x[::-1, ::2]:
        stream.update(row)
    assert bits_of(stream.summary()) == bits(statistics(np.ascontiguousarray(x[::-1, ::2])))
    stream = Accumulator().update(torch.from_numpy(x)).update(x.T[:0])
    assert bits_of(stream.summary()) == bits(statistics(x))


def test_memory_map(tmp_path: Path, rng: np.random.Generator) -> None:
    x = sample(rng, "float16", 200_001)
    x.tofile(tmp_path / "x.bin")
    mapped = np.memmap(tmp_path / "x.bin", np.float16, "r")
    stream = Accumulator("float16", fingerprint=True)
    for at in range(0, mapped.size, 50_000):
        stream.update(mapped[at : at + 50_000])
    assert stream.summary() == tensometer.summarize(x, fingerprint=True)


@pytest.mark.parametrize("name", ["bfloat16", "float8_e4m3fn", "float8_e5m2fnuz"])
def test_raw_bits(name: str, rng: np.random.Generator) -> None:
    x = sample(rng, name, 10_000)
    stream = Accumulator(name).update(x[:999]).update(x[999:].view(f"u{x.itemsize}"))
    assert stream.summary() == tensometer.summarize(x)


def test_dtype_and_count() -> None:
    stream = Accumulator()
    assert (stream.dtype, stream.count) == (None, 0)
    assert repr(stream) == "Accumulator(dtype=None, count=0)"
    with pytest.raises(ValueError, match="dtype: unknown until the first update"):
        stream.summary()
    assert stream.update(np.zeros((2, 3))) is stream
    assert (stream.dtype, stream.count, stream.summary().shape) == ("float64", 6, (6,))
    empty = Accumulator("int8").summary()
    assert (empty.count, empty.dtype, math.isnan(empty.mean)) == (0, "int8", True)


def test_sparse_pieces() -> None:
    dense = torch.zeros(50, 40)
    dense[3, 4], dense[40, 2] = 2.5, -1
    stream = Accumulator("float32", histogram=True).update(dense.to_sparse()).update(dense)
    s = stream.summary()
    assert (s.count, s.zeros, s.min, s.max, s.l1) == (4000, 3996, -1, 2.5, 7)
    assert s.histogram is not None
    assert s.histogram.total == 4000


@pytest.mark.parametrize(
    "wrong", [np.zeros(3, np.float64), np.zeros(3, np.uint16), None, "abc", [1.0], np.array(["a"])]
)
def test_wrong_pieces_change_nothing(wrong: object) -> None:
    stream = Accumulator("float32", histogram=True).update(np.arange(5000, dtype=np.float32))
    before = stream.summary(), pickle.dumps(stream)
    with pytest.raises((TypeError, ValueError), match=r"^x: "):
        stream.update(wrong)
    assert (stream.summary(), pickle.dumps(stream)) == before


@pytest.mark.parametrize("name", REAL)
def test_merged(name: str, rng: np.random.Generator) -> None:
    """Counts, extremes and histogram are those of one pass; sums within a few roundings of float64."""
    for left, right in ((0, 5), (5, 0), (3000, 9001), (BLOCK, BLOCK)):
        x = sample(rng, name, left + right, "shifted" if left == 3000 else "holes")
        a, b = (fed(part, [], histogram=True) for part in (x[:left], x[left:]))
        merged = a.merge(b).summary()
        whole = tensometer.summarize(x, histogram=True)
        assert merged == tensometer.summarize(x[:left], histogram=True).merge(b.summary())
        for column in ("count", "zeros", "negatives", "nan", "posinf", "neginf", "min", "max", "linf", "histogram"):
            assert getattr(merged, column) == getattr(whole, column), column
        reference = exact(independent(x) if x.dtype.kind not in "biu" else x)
        assert abs(Fraction(merged.l1) - reference.magnitudes) <= reference.magnitudes * Fraction(2e-7)
        assert abs(Fraction(merged.sum) - reference.total) <= reference.magnitudes * Fraction(2e-7)
        deviations = abs(Fraction(merged.variance()) - reference.variance())
        assert deviations <= reference.variance() * Fraction(1e-6) + reference.squares * Fraction(2.0**-50)


def test_merged_streams_go_on(rng: np.random.Generator) -> None:
    x = sample(rng, "float64", 30_000)
    a, b = fed(x[:5000], []), fed(x[5000:9000], [])
    s = a.merge(b).update(x[9000:]).summary()
    assert (s.count, s.min, s.max) == (30_000, x.min(), x.max())
    assert s.mean == pytest.approx(x.mean(), abs=1e-15)
    assert b.count == 4000
    assert Accumulator().merge(b).summary() == b.summary()
    assert b.merge(Accumulator()).count == 4000
    assert b.merge(b).count == 8000


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (Accumulator("float64"), "other: has dtype float64, this accumulator float32"),
        (Accumulator("float32", histogram=True), "other: counts another histogram"),
        (Accumulator("float32", resolution=3), "other: counts another histogram"),
    ],
)
def test_merging_what_does_not_fit_changes_nothing(other: Accumulator, message: str) -> None:
    stream = Accumulator("float32").update(np.arange(9, dtype=np.float32))
    before = pickle.dumps(stream)
    with pytest.raises(ValueError, match=message):
        stream.merge(other)
    assert pickle.dumps(stream) == before
    with pytest.raises(ValueError, match="dtype"):
        tensometer.summarize(np.zeros(3)).merge(tensometer.summarize(np.zeros(3, np.int8)))


@pytest.mark.parametrize("name", DTYPES)
def test_copies_go_on(name: str, rng: np.random.Generator) -> None:
    x = sample(rng, name, 2 * BLOCK + 500, "holes")
    for at in (0, 100, BLOCK, BLOCK + 1, x.size):
        stream = fed(x[:at], [], histogram=True, fingerprint=True)
        for again in (pickle.loads(pickle.dumps(stream)), copy.copy(stream), copy.deepcopy(stream)):
            expected = tensometer.summarize(x, histogram=True, fingerprint=True)
            assert again.update(x[at:]).summary() == expected
    assert pickle.loads(pickle.dumps(expected)) == expected


def test_equal_summaries(rng: np.random.Generator) -> None:
    x = sample(rng, "float32", 5000)
    s = tensometer.summarize(x, histogram=True)
    assert s == tensometer.summarize(x.copy(), histogram=True)
    assert s != tensometer.summarize(x)
    assert s != tensometer.summarize(x.reshape(50, 100), histogram=True)
    assert s != tensometer.summarize(-x, histogram=True)
    assert s != "Summary"
    nothing = tensometer.summarize(np.array([np.nan]))
    assert nothing == tensometer.summarize(np.array([np.nan]))


def state_of(stream: Accumulator) -> bytes:
    return stream.__getstate__()


@STEADY
@given(st.data())
def test_garbage_states(data: st.DataObject) -> None:
    """A state that is not one is a ValueError; one that passes is a stream that works."""
    x = np.arange(data.draw(st.integers(0, 9000)), dtype=data.draw(st.sampled_from(["f4", "i8", "u1"])))
    state = bytearray(state_of(Accumulator(x.dtype.name, histogram=True, fingerprint=True).update(x)))
    kind = data.draw(st.sampled_from(["cut", "flip", "random", "longer", "huge"]))
    if kind == "cut":
        del state[data.draw(st.integers(0, len(state) - 1)) :]
    elif kind == "flip":
        state[data.draw(st.integers(0, min(len(state) - 1, 400)))] ^= 1 << data.draw(st.integers(0, 7))
    elif kind == "random":
        state = bytearray(data.draw(st.binary(max_size=200)))
    elif kind == "longer":
        state += b"x"
    else:
        at = data.draw(st.integers(0, max(0, len(state) - 9)))
        state[at : at + 8] = b"\xff" * 8
    stream = Accumulator.__new__(Accumulator)
    try:
        stream.__setstate__(bytes(state))
    except ValueError:
        return
    s = stream.update(np.zeros(3, stream.dtype)).summary() if stream.dtype else None
    assert s is None or s.count >= 3


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", DTYPES)
def test_pickles_of_merged_streams(name: str, kind: str, rng: np.random.Generator) -> None:
    x = sample(rng, name, 9000, kind)
    a, b = (fed(part, [], histogram=True) for part in (x[:5000], x[5000:]))
    for stream in (a, b, Accumulator(name, histogram=True).merge(a).merge(b)):
        again = pickle.loads(pickle.dumps(stream))
        assert state_of(again) == state_of(stream)
        assert again.summary() == stream.summary()


@STEADY
@given(st.data())
def test_garbage_summaries(data: st.DataObject) -> None:
    """A state that is not one is a ValueError; one that passes is a summary that can be read."""
    x = np.arange(data.draw(st.integers(0, 9000)), dtype=data.draw(st.sampled_from(["f4", "i8", "u1"])))
    state = bytearray(tensometer.summarize(x, histogram=True, fingerprint=True).__getstate__())
    for _ in range(data.draw(st.integers(0, 3))):
        state[data.draw(st.integers(0, len(state) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    del state[data.draw(st.integers(len(state) // 2, len(state))) :]
    s = tensometer.Summary.__new__(tensometer.Summary)
    try:
        s.__setstate__(bytes(state))
    except ValueError:
        return
    assert s.merge(s).count == 2 * s.count
    assert s.histogram is None or s.histogram.edges.shape == (len(s.histogram.counts), 2)
    assert s.to_dict()["count"] == s.count


@STEADY
@given(st.data())
def test_a_merge_rounds_within_its_bound(data: st.DataObject) -> None:
    value = st.floats(-1e100, 1e100, allow_subnormal=False) | st.floats(1e6, 1.000001e6)
    x, y = (np.array(data.draw(st.lists(value, min_size=1, max_size=5))) for _ in "ab")
    a, b = tensometer.summarize(x), tensometer.summarize(y)
    both = a.merge(b)
    n, m, u = a.count, b.count, Fraction(2) ** -53
    mean_a, mean_b = Fraction(a.mean), Fraction(b.mean)
    mean, delta = (n * mean_a + m * mean_b) / (n + m), mean_b - mean_a
    assert abs(Fraction(both.mean) - mean) <= u * (abs(mean) + 4 * abs(delta)) * (1 + 8 * u)
    # The variances of the parts are themselves read off rounded: m2 / n.
    m2 = n * Fraction(a.var) + m * Fraction(b.var) + delta * delta * n * m / (n + m)
    assert abs((n + m) * Fraction(both.var) - m2) <= (10 + 3) * u * m2 + Fraction(2) ** -1000


def test_a_merge_that_fails_leaves_the_dtype_open() -> None:
    stream = Accumulator(histogram=True)
    with pytest.raises(ValueError, match="other: counts another histogram"):
        stream.merge(Accumulator("float32").update(np.ones(3, np.float32)))
    assert (stream.dtype, stream.count) == (None, 0)
