"""Two tensors in one pass: the difference is summarized as it is computed, norms and cosine against fractions."""

import copy
import math
import pickle
import re
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import tensometer
import torch
from contract import bits, bits_of, statistics
from hypothesis import given
from hypothesis import strategies as st
from references import Exact, assert_root, assert_within, exact
from samples import DTYPES, REAL, STEADY, independent, sample

Array = np.ndarray[Any, np.dtype[Any]]
DOUBLE = ("float64", "int32", "uint32", "int64", "uint64")


def difference(old: Array, new: Array) -> Array:
    """new - old in the type that the documentation names, 64-bit integers as whole numbers."""
    if old.dtype.name in ("int64", "uint64"):
        return np.array([int(b) - int(a) for a, b in zip(old.flat, new.flat, strict=True)], np.float64)
    lane = np.float64 if old.dtype.name in DOUBLE else np.float32
    with np.errstate(all="ignore"):
        return np.subtract(new.astype(lane), old.astype(lane))


def references(old: Array, new: Array) -> tuple[Exact, Exact, Fraction]:
    """Of the pairs in which both are finite: both sides, and the sum of products."""
    a, b = independent(old).reshape(-1), independent(new).reshape(-1)
    kept = np.isfinite(a) & np.isfinite(b)
    dot = sum((Fraction(x) * Fraction(y) for x, y in zip(a[kept], b[kept], strict=True)), Fraction(0))
    return exact(a[kept]), exact(b[kept]), dot


def pairs(rng: np.random.Generator, name: str, size: int, kind: str) -> tuple[Array, Array]:
    old = sample(rng, name, size, kind).copy()
    new = sample(rng, name, size, kind).copy()
    same = rng.random(size) < 0.3
    new[same] = old[same]
    return old, new


@pytest.mark.parametrize("kind", ["normal", "holes", "bits", "huge", "tiny"])
@pytest.mark.parametrize("name", REAL)
def test_every_dtype(name: str, kind: str, isa: str, rng: np.random.Generator) -> None:
    for size in (0, 1, 130, 5000):
        old, new = pairs(rng, name, size, kind)
        c = tensometer.compare(old, new)
        assert bits_of(c.difference) == bits(statistics(difference(old, new)))
        assert c.difference.dtype == ("float64" if name in DOUBLE else "float32")
        with np.errstate(invalid="ignore"):
            equal = (old == new) | ((old != old) & (new != new))
        assert (c.count, c.equal, c.changed) == (size, int(equal.sum()), int(size - equal.sum()))
        if size:
            assert c.changed_fraction == c.changed / size
        assert c.nonfinite == int((~equal & ~np.isfinite(difference(old, new))).sum())
        assert c.max_abs_difference == (math.inf if c.nonfinite else c.difference.linf)


@pytest.mark.parametrize("kind", ["normal", "holes", "tiny", "huge"])
@pytest.mark.parametrize("name", ["float32", "float64", "bfloat16", "float16", "int8", "int32"])
def test_norms_and_cosine(name: str, kind: str, rng: np.random.Generator) -> None:
    for size in (3, 3000, 9001):
        old, new = pairs(rng, name, size, kind)
        if name == "float64" and kind in ("tiny", "huge"):  # where the norms themselves leave float64, or its precision
            old, new = old * 2.0 ** (100 if kind == "tiny" else -100), new * 2.0 ** (100 if kind == "tiny" else -100)
        c = tensometer.compare(old, new)
        a, b, dot = references(old, new)
        assert_root(c.old_l2, a.squares, 1e-12)
        assert_root(c.new_l2, b.squares, 1e-12)
        if a.squares and b.squares:
            # |error of dot| <= n eps |a| |b|, so that of the cosine is n eps at most.
            size_of_both = Fraction(math.sqrt(a.squares / b.squares)) * b.squares
            assert_within(c.cosine, dot / size_of_both, size * 2.0**-52 + 1e-14)
        else:
            assert math.isnan(c.cosine)
        expected = c.difference.l2 / c.old_l2 if c.old_l2 else math.inf
        assert c.relative_update == (math.inf if c.nonfinite else expected if c.difference.l2 else 0)


def test_nothing_changed(rng: np.random.Generator) -> None:
    x = sample(rng, "float32", 9001, "holes")
    c = tensometer.compare(x, x)
    assert (c.equal, c.changed, c.changed_fraction, c.relative_update) == (9001, 0, 0, 0)
    assert c.cosine == pytest.approx(1, abs=1e-15)
    assert tensometer.compare(x, -x).cosine == pytest.approx(-1, abs=1e-15)
    zeros = np.zeros(5, np.float32)
    assert tensometer.compare(zeros, -zeros).changed == 0
    assert tensometer.compare(zeros, zeros + 1).relative_update == math.inf
    assert math.isnan(tensometer.compare(zeros, zeros + 1).cosine)
    empty = tensometer.compare(zeros[:0], zeros[:0])
    assert (empty.count, empty.relative_update, empty.old_l2, empty.max_abs_difference) == (0, 0, 0, 0)
    assert math.isnan(empty.cosine)
    assert math.isnan(empty.changed_fraction)


@pytest.mark.parametrize(
    ("old", "new", "nonfinite"),
    [
        ([1, 2], [math.nan, math.nan], 2),
        ([math.nan, 2], [1, 3], 1),
        ([1, 2], [math.inf, 2], 1),
        ([math.inf, 2], [-math.inf, 2], 1),
        ([3e38, 1], [-3e38, 1], 1),
        ([math.nan, math.inf, -math.inf, 1], [math.nan, math.inf, -math.inf, 1], 0),
    ],
)
def test_changes_of_no_finite_size(old: list[float], new: list[float], nonfinite: int, isa: str) -> None:
    for times in (1, 50, 5000):
        pair = (np.tile(np.float32(old), times), np.tile(np.float32(new), times))
        c = tensometer.compare(*pair)
        assert c.nonfinite == nonfinite * times
        assert (c.relative_update, c.max_abs_difference) == ((math.inf, math.inf) if nonfinite else (0, 0))
        both = c.merge(tensometer.compare(*(np.ones(3, np.float32),) * 2))
        assert (both.nonfinite, both.relative_update) == (c.nonfinite, c.relative_update)
        assert both.to_dict()["nonfinite"] == c.nonfinite


def test_pickles(rng: np.random.Generator) -> None:
    c = tensometer.compare(*pairs(rng, "float32", 5000, "holes"), histogram=True)
    again = pickle.loads(pickle.dumps(c))
    assert again == c
    assert again.difference.histogram == c.difference.histogram
    assert copy.deepcopy(c).merge(c) == c.merge(c)
    with pytest.raises(ValueError, match="state"):
        tensometer.Comparison.__new__(tensometer.Comparison).__setstate__(c.__getstate__()[:-1])


def test_integers_do_not_wrap() -> None:
    c = tensometer.compare(np.array([0, 255], np.uint8), np.array([255, 0], np.uint8))
    assert (c.difference.min, c.difference.max) == (-255, 255)
    near = 2**62
    c = tensometer.compare(np.array([near, -near - near], np.int64), np.array([near + 1, near], np.int64))
    assert (c.changed, c.difference.min, c.difference.max) == (2, 1, float(3 * near))


OTHER_LAYOUTS: list[Callable[[Array], Array]] = [
    np.asfortranarray,
    lambda x: np.repeat(x, 2, 1)[:, ::2],
    lambda x: x[::-1].copy()[::-1],
]


@STEADY
@given(st.integers(0, 70), st.integers(1, 70), st.data())
def test_layouts_pair_by_index(rows: int, columns: int, data: st.DataObject) -> None:
    rng = np.random.default_rng(rows * 71 + columns)
    old, new = pairs(rng, "float32", rows * columns, "normal")
    old, new = old.reshape(rows, columns), new.reshape(rows, columns)
    expected = tensometer.compare(old, new)
    other = data.draw(st.sampled_from(OTHER_LAYOUTS))
    assert tensometer.compare(other(old), new) == tensometer.compare(old, other(new)) == expected
    both = tensometer.compare(other(old), other(new))  # perhaps in memory order: the same counts
    assert (both.count, both.equal, both.max_abs_difference) == (
        expected.count,
        expected.equal,
        expected.max_abs_difference,
    )


@pytest.mark.parametrize("name", ["float32", "float64", "bfloat16", "int64", "float8_e5m2"])
def test_threads_and_instruction_sets(name: str, rng: np.random.Generator) -> None:
    old, new = pairs(rng, name, 700_003, "holes")
    expected = tensometer.compare(old, new, histogram=True, threads=1)
    for isa in tensometer.isas():
        with tensometer.isa(isa):
            for threads in (2, 3, 8):
                assert tensometer.compare(old, new, histogram=True, threads=threads) == expected
    finite = difference(old, new)
    assert expected.difference.histogram == tensometer.summarize(finite, histogram=True).histogram


@pytest.mark.parametrize("name", ["float32", "float64", "int16"])
def test_merge(name: str, rng: np.random.Generator) -> None:
    old, new = pairs(rng, name, 20_000, "holes")
    whole = tensometer.compare(old, new, histogram=True)
    parts = [tensometer.compare(old[cut], new[cut], histogram=True) for cut in (slice(7000), slice(7000, None))]
    merged = parts[0].merge(parts[1])
    for column in ("count", "equal", "changed", "changed_fraction", "max_abs_difference"):
        assert getattr(merged, column) == getattr(whole, column), column
    for column in ("cosine", "relative_update", "old_l2", "new_l2"):
        assert getattr(merged, column) == pytest.approx(getattr(whole, column), rel=2e-7), column
    assert merged.difference.histogram == whole.difference.histogram
    assert merged.to_dict()["equal"] == whole.equal
    other = np.zeros(3, np.float32 if name == "float64" else np.float64)
    with pytest.raises(ValueError, match="dtype"):
        merged.merge(tensometer.compare(other, other))


def test_torch_and_text() -> None:
    old = torch.arange(100.0)
    c = tensometer.compare(old, old * 1.5)
    assert repr(c) == "Comparison(count=100, changed=99, relative_update=0.5, cosine=1)"
    assert list(c.to_dict()) == [
        "count",
        "equal",
        "changed",
        "changed_fraction",
        "nonfinite",
        "relative_update",
        "cosine",
        "max_abs_difference",
        "old_l2",
        "new_l2",
    ]


WRONG = [
    (np.zeros(3), np.zeros(4), "new: has shape (4,), old has (3,)"),
    (np.zeros((2, 3)), np.zeros((3, 2)), "new: has shape (3, 2), old has (2, 3)"),
    (np.zeros(3), np.zeros(3, np.float32), "new: has dtype float32, old has float64"),
    (np.zeros(3, complex), np.zeros(3, complex), "old: complex tensors cannot be compared"),
]


@pytest.mark.parametrize(("old", "new", "message"), WRONG)
def test_what_cannot_be_paired(old: Array, new: Array, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        tensometer.compare(old, new)


def test_sparse_tensors_are_refused() -> None:
    dense = torch.ones(3, 4)
    with pytest.raises(TypeError, match="old: is sparse; compare takes dense tensors"):
        tensometer.compare(dense.to_sparse(), dense)
    with pytest.raises(TypeError, match="new: is sparse; compare takes dense tensors"):
        tensometer.compare(dense, dense.to_sparse())


def test_every_real_dtype_is_known() -> None:
    assert set(REAL) | {"complex64", "complex128"} == set(DTYPES)


def test_merging_with_nothing_changes_nothing(rng: np.random.Generator) -> None:
    old, new = pairs(rng, "float64", 5000, "holes")
    c, nothing = tensometer.compare(old, new), tensometer.compare(old[:0], new[:0])
    assert c.merge(nothing).to_dict() == nothing.merge(c).to_dict() == c.to_dict()
    assert nothing.merge(nothing).to_dict().items() >= {"count": 0, "relative_update": 0.0, "old_l2": 0.0}.items()


def test_blocks_of_different_scale() -> None:
    # Squares of either side leave float64's range on their own; each block carries a power of two.
    old, new = np.full(4097, 1e-200), np.full(4097, 1e200)
    old[-1], new[-1] = 1e200, 1e-200
    c = tensometer.compare(old, new)
    a, b, _ = references(old, new)
    assert_root(c.old_l2, a.squares, 1e-12)
    assert_root(c.new_l2, b.squares, 1e-12)
    assert c.cosine == 0 or abs(c.cosine) < 1e-199
