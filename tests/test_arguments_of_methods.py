"""Wrong arguments of methods, spellings of dtypes, and objects that were made by hand."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tensometer
import torch

X = np.zeros(3, np.float32)
SOME = tensometer.summarize(np.float32([1, 1e-9, 1e9]), histogram=True)
TABLE = tensometer.summarize_many({"a": X})
COMPARISON = tensometer.compare(X, X)
assert SOME.histogram is not None
LOG: tensometer.LogHistogram = SOME.histogram
METHODS: dict[str, tuple[Callable[[Any], object], type[Exception], str]] = {
    "quantile": (SOME.quantile, TypeError, "q: {} is not a number"),
    "histogram.quantile": (LOG.quantile, TypeError, "q: {} is not a number"),
    "underflow": (SOME.underflow, TypeError, "dtype: dtype {} cannot be summarized"),
    "subnormal": (SOME.subnormal, TypeError, "dtype: dtype {} cannot be summarized"),
    "overflow": (SOME.overflow, TypeError, "dtype: dtype {} cannot be summarized"),
    "merge": (SOME.merge, TypeError, "other: {} is not a Summary"),
    "table key": (TABLE.__getitem__, TypeError, "key: {} is neither the number nor the name of a row"),
    "column": (TABLE.column, TypeError, "statistic: {} is not a string"),
    "Comparison.merge": (COMPARISON.merge, TypeError, "other: {} is not a Comparison"),
    "Accumulator.merge": (tensometer.Accumulator().merge, TypeError, "other: {} is not a Accumulator"),
    "LogHistogram.merge": (LOG.merge, TypeError, "other: {} is not a LogHistogram"),
    "isa": (tensometer.isa, TypeError, "name: {} is not a string"),
    "coarsen": (LOG.coarsen, TypeError, "resolution: {} is not a whole number"),
}


@pytest.mark.parametrize("wrong", [None, [1.5], b"x" * 10**7, "a" * 10**7, list(range(10**6))])
@pytest.mark.parametrize(("call", "error", "message"), METHODS.values(), ids=METHODS)
def test_methods(call: Callable[[Any], object], error: type[Exception], message: str, wrong: object) -> None:
    is_text = isinstance(wrong, str)
    with pytest.raises((error, ValueError, KeyError) if is_text else error) as caught:
        call(wrong)
    found = str(caught.value)
    assert len(found) < 400  # the argument is named, not printed, if it is large
    if not is_text:
        large = len(repr(wrong)) > 80  # type: ignore[arg-type]
        shown = f"{type(wrong).__name__} of length {len(wrong)}" if large else repr(wrong)  # type: ignore[arg-type]
        assert message.format(shown) in found


@pytest.mark.parametrize("q", [-0.1, 1.1, float("nan")])
def test_quantiles_out_of_range(q: float) -> None:
    for call in (SOME.quantile, LOG.quantile):
        with pytest.raises(ValueError, match=r"q: .* is not between 0 and 1"):
            call(q)


SPELLINGS = ["float16", "torch.float16", torch.float16, np.float16, np.dtype("f2"), "f2", "half"]


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_spellings_of_a_dtype(spelling: object) -> None:
    assert (SOME.underflow(spelling), SOME.overflow(spelling)) == (1, 1)
    assert SOME.headroom(spelling) == pytest.approx(65504 / 1e9)
    assert SOME.subnormal(spelling) == 0
    assert tensometer.Accumulator(spelling).dtype == "float16"


@pytest.mark.parametrize("wrong", ["int8", "float7", np.int32, torch.bool])
def test_dtypes_that_nothing_is_rounded_to(wrong: object) -> None:
    with pytest.raises(ValueError, match=r"dtype: '.*' is not a floating-point format; known are float64"):
        SOME.overflow(wrong)


@pytest.mark.parametrize(
    "kind",
    [
        tensometer.Summary,
        tensometer.SummaryTable,
        tensometer.Comparison,
        tensometer.LogHistogram,
        tensometer.Histogram,
        tensometer.Accumulator,
        tensometer.isa,
    ],
)
def test_objects_that_were_never_initialised(kind: Any) -> None:
    bare = kind.__new__(kind)
    for name in dir(kind):
        if isinstance(vars(kind).get(name), property):
            with pytest.raises(TypeError, match="never initialised"):
                getattr(bare, name)
    show = bare.__enter__ if kind is tensometer.isa else bare.__repr__
    with pytest.raises(TypeError, match="never initialised"):
        show()
