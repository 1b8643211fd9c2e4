"""Every kind of dtype on the same number of elements, so that times compare as elements per second."""

import tensometer

from benchmarks import answers
from benchmarks.data import as_dtype, weights
from benchmarks.harness import Case, Side
from benchmarks.scale import Scale

WIDE = ("float64", "int8", "int16", "int32", "int64", "uint8", "bool", "float8_e4m3fn", "float8_e5m2", "complex64")


def sixteen_bits(scale: Scale) -> Case:
    """float32 against the 16-bit floats, all beyond the caches."""
    return _case(scale, scale.largest, ("float32", "float16", "bfloat16"), histograms=(False, True))


def every_dtype(scale: Scale) -> Case:
    """A quarter of the elements, so that the 16-byte dtypes fit in memory with the rest."""
    return _case(scale, scale.largest // 4, ("float32", *WIDE), histograms=(False,))


def _case(scale: Scale, nbytes: int, dtypes: tuple[str, ...], histograms: tuple[bool, ...]) -> Case:
    values = weights(scale, nbytes)
    arrays = {dtype: as_dtype(values, dtype) for dtype in dtypes}

    def check() -> None:
        for dtype, x in arrays.items():
            for histogram in histograms:
                summary = tensometer.summarize(x, histogram=histogram)
                answers.same("dtype", summary.dtype, dtype)
                answers.check_summary(dtype, summary, answers.reference(x))

    def side(dtype: str, histogram: bool) -> Side:
        x = arrays[dtype]
        name = f"{dtype} with histogram" if histogram else dtype
        return Side(name, lambda: tensometer.summarize(x, histogram=histogram, threads=1))

    sides = tuple(side(dtype, histogram) for histogram in histograms for dtype in dtypes)
    return Case(values.size, values.nbytes, sides, check)


CASES = {"16-bit dtypes": sixteen_bits, "every dtype": every_dtype}
