"""Updates: old and new tensors in one pass, and the direction beside the update before."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import tensometer
import torch
from references import exact
from samples import REAL, sample
from tensometer._core import UpdateTracker

Array = np.ndarray[Any, np.dtype[Any]]
WIDE = ("float64", "int32", "uint32", "int64", "uint64")


def steps(rng: np.random.Generator, name: str, size: int, kind: str, count: int = 3) -> Iterator[tuple[Array, Array]]:
    for _ in range(count):
        old = sample(rng, name, size, kind).copy()
        new = np.where(rng.random(size) < 0.3, old, sample(rng, name, size, kind))
        yield old, new.astype(old.dtype)


@pytest.mark.parametrize("kind", ["normal", "holes", "huge", "tiny"])
@pytest.mark.parametrize("name", REAL)
def test_every_dtype_is_as_compare_says(name: str, kind: str, isa: str, rng: np.random.Generator) -> None:
    for size in (0, 1, 130, 5000):
        tracker = UpdateTracker()
        for old, new in steps(rng, name, size, kind):
            tracker.before([old])
            table, columns = tracker.after([new], histogram=True)
            expected = tensometer.compare(old, new, histogram=True)
            assert table[0] == expected.difference
            found = [columns["ratio"][0], columns["changed_fraction"][0]]
            np.testing.assert_array_equal(found, [expected.relative_update, expected.changed_fraction])
            lane = np.float64 if name in WIDE else np.float32
            assert tracker.difference(0).dtype == lane
            if name not in ("int64", "uint64"):  # those are subtracted as whole numbers
                with np.errstate(all="ignore"):
                    np.testing.assert_array_equal(tracker.difference(0), new.astype(lane) - old.astype(lane))


@pytest.mark.parametrize("name", ["float32", "float64", "bfloat16", "float16", "int8"])
def test_cosine_with_the_update_before(name: str, isa: str, rng: np.random.Generator) -> None:
    tracker, last = UpdateTracker(), None
    for old, new in steps(rng, name, 5000, "normal"):
        tracker.before([old])
        cosine = tracker.after([new])[1]["cosine"][0]
        difference = tracker.difference(0).astype(np.float64)
        if last is None:
            assert np.isnan(cosine)
        else:
            size = float(exact(difference).squares * exact(last).squares) ** 0.5
            # Each norm within 2e-7, as of the difference's summary; products are exact but for float64's rounding.
            assert cosine == pytest.approx(float(difference @ last) / size, rel=5e-7, abs=1e-12)
        last = difference


def test_cosines_that_do_not_exist() -> None:
    tracker = UpdateTracker()
    zero, one, broken = np.zeros(300), np.ones(300), np.full(300, np.inf)
    found = []
    for old, new in ((zero, one), (zero, -one), (one, one), (zero, one), (zero, broken), (zero, one), (zero, one)):
        tracker.before([old])
        found.append(float(tracker.after([new])[1]["cosine"][0]))
    np.testing.assert_allclose(found, [np.nan, -1, np.nan, np.nan, np.nan, np.nan, 1], rtol=1e-15)


def test_layouts(isa: str, rng: np.random.Generator) -> None:
    def fresh() -> Array:
        return rng.standard_normal((6, 50, 40)).astype(np.float32)

    views = [
        fresh().transpose(2, 0, 1),
        fresh()[:, ::2],
        fresh()[::-1],
        fresh().astype(">f4"),
        np.asfortranarray(fresh()),
    ]
    old = [view.astype(np.float32) for view in views]
    tracker = UpdateTracker()
    tracker.before(views)
    for view in views:
        view += 0.5
    tracker.after(views)
    for at, (view, before) in enumerate(zip(views, old, strict=True)):
        np.testing.assert_array_equal(tracker.difference(at), view - before)


def test_threads_and_sampling_give_the_same_bits(rng: np.random.Generator) -> None:
    old = [rng.standard_normal(size).astype(np.float32) for size in (700_001, 5, 0, 1 << 18)]
    new = [x + np.float32(1e-3) * rng.standard_normal(x.size).astype(np.float32) for x in old]
    found = []
    for threads in (1, 2, 5):
        tracker = UpdateTracker()
        for _ in range(2):
            tracker.before(old, threads=threads)
            table, columns = tracker.after(new, histogram="sampled", resolution=3, threads=threads)
        found.append((list(table), [column.tobytes() for column in columns.values()]))
    assert found[0] == found[1] == found[2]
    whole = tensometer.compare(old[0], new[0], histogram="sampled", resolution=3).difference
    assert found[0][0][0] == whole
    assert whole.histogram is not None
    assert whole.histogram.sampled
    assert whole.histogram == tensometer.summarize(new[0] - old[0], histogram="sampled", resolution=3).histogram


def test_tensors_that_are_others() -> None:
    tracker = UpdateTracker()
    x = np.ones((3, 4), np.float32)
    with pytest.raises(ValueError, match="tensors: 1 given, which before\\(\\) has not copied"):
        tracker.after([x])
    with pytest.raises(IndexError, match="index"):
        tracker.difference(0)
    tracker.before([x])
    with pytest.raises(ValueError, match="there was no after"):
        tracker.difference(0)
    for other in (x.astype(np.float64), x.reshape(4, 3), np.asfortranarray(x)):
        tracker.before([x])
        with pytest.raises(ValueError, match=r"tensors\[0\]: is not the one that before\(\) copied"):
            tracker.after([other])
        with pytest.raises(ValueError, match="there was no after"):
            tracker.difference(0)
    with pytest.raises(ValueError, match="has not copied"):
        tracker.after([x])  # forgotten
    tracker.before([x])
    tracker.after([x])
    tracker.before([x.astype(np.float64)])  # another tensor in its place has no update before
    assert np.isnan(tracker.after([x.astype(np.float64) + 1])[1]["cosine"][0])
    with pytest.raises(ValueError, match="index: 1 is not between 0 and 0"):
        tracker.difference(1)
    with pytest.raises(ValueError, match="tensors: complex ones are not tracked"):
        tracker.before([np.ones(3, np.complex64)])
    with pytest.raises(TypeError, match=r"tensors\[0\]: is sparse"):
        tracker.before([torch.eye(3).to_sparse()])
    with pytest.raises(TypeError, match="tensors: 5 is no iterable"):
        tracker.before(5)  # type: ignore[arg-type]
