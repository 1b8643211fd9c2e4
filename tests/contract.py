"""The numeric contract in NumPy: lanes, rows, pivots, scaling, folds and merges, to be met with ==.

Written from the contract's words, not from the core's code: 32 rows of four terms for each of 32 lanes make a block, 64
blocks a group, 64 groups a super-group; lanes fold in halves; blocks and groups merge from left to right by Chan's
update in float64.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import tensometer

Array = npt.NDArray[Any]
LANES, TERMS, ROWS, LANE_ROWS, FOLD = 32, 4, 32, 8, 64
ROW = LANES * TERMS
BLOCK = ROW * ROWS
_ONE_BYTE = ("float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz", "bool", "int8", "uint8")
_FLOAT32_LANES = ("float32", "float16", "bfloat16", "int16", "uint16")


@dataclass(frozen=True)
class Part:
    """A block or several. Moments are those of the elements times 2**-exponent."""

    count: int = 0
    zeros: int = 0
    negatives: int = 0
    nan: int = 0
    posinf: int = 0
    neginf: int = 0
    low: float = math.inf
    high: float = -math.inf
    mean: float = 0.0
    m2: float = 0.0
    abs_sum: float = 0.0
    exponent: int = 0

    @property
    def finite(self) -> int:
        """Elements that the moments are over."""
        return self.count - self.nan - self.posinf - self.neginf


def statistics(x: Array) -> dict[str, Any]:
    """What `summarize(x).to_dict()` must be, bit for bit, for a contiguous array; no dtype, shape, fingerprint."""
    name, flat = x.dtype.name, x.reshape(-1)
    with np.errstate(invalid="ignore"):  # signalling NaN are widened to quiet ones
        part = _table(flat) if name in _ONE_BYTE else _reduced(flat, name)
    result = _derived(part)
    if x.dtype.kind in "biu" and flat.size:
        result["min"], result["max"] = int(flat.min()), int(flat.max())
    return result


def bits(statistics: dict[str, Any]) -> dict[str, object]:
    """The same with floats as their exact text, so that zeros have signs and NaN equals NaN."""
    return {key: value.hex() if isinstance(value, float) else value for key, value in statistics.items()}


def bits_of(summary: tensometer.Summary) -> dict[str, object]:
    """The part of a summary that `statistics` predicts."""
    found = bits(summary.to_dict())
    return {key: value for key, value in found.items() if key not in ("dtype", "shape", "fingerprint")}


def _reduced(flat: Array, name: str) -> Part:
    lanes = _lanes(flat, name)
    wide = name in ("float64", "complex64", "complex128")
    return fold(_block(lanes[at : at + BLOCK], wide) for at in range(0, flat.size, BLOCK))


def _lanes(flat: Array, name: str) -> Array:
    if name.startswith("complex"):
        return _magnitudes(flat.real.astype(np.float64), flat.imag.astype(np.float64))
    return flat.astype(np.float32 if name in _FLOAT32_LANES else np.float64)


def _magnitudes(re: Array, im: Array) -> Array:
    re, im = np.abs(re), np.abs(im)
    larger = np.fmax(re, im)
    scaled = (larger > 0) & np.isfinite(larger) & ((larger < 2.0**-458) | (larger >= 2.0**480))
    exponent = np.where(scaled, np.frexp(larger)[1] - 1, 0)
    x, y = np.ldexp(re, -exponent), np.ldexp(im, -exponent)
    with np.errstate(over="ignore"):
        size = np.ldexp(np.sqrt(x * x + y * y), exponent)
    size = np.minimum(size, np.finfo(np.float64).max)  # keeps NaN
    return np.where(np.isinf(re) | np.isinf(im), math.inf, size)


def _block(lanes: Array, wide: bool) -> Part:
    """One block of up to 4096 float32 or float64 lanes. wide: the exponent of its moments is kept."""
    counts = _counts(lanes)
    if counts.finite == 0:
        return counts
    if lanes.size <= ROW:
        lanes = lanes.astype(np.float64)  # a single row carries no rounding of float32
    lane = lanes.dtype.type
    finite = np.isfinite(lanes)
    exponent = _exponent(max(abs(counts.low), abs(counts.high)), lane)
    values = np.where(finite, lanes, lane(0)) * lane(math.ldexp(1.0, -exponent))
    first = np.zeros(ROW)
    first[: lanes.size] = values[:ROW]
    in_first = int(finite[:ROW].sum())
    pivot = lane(_pivot(first, in_first, bool(finite[0]))) if in_first else lane(0)
    d = np.where(finite, values - pivot, lane(0))
    total, squares, magnitudes = _folded(_rows(d)), _folded(_rows(d * d)), _folded(_rows(np.abs(values)))
    n = float(counts.finite)
    mean, m2 = float(pivot) + total / n, max(squares - total * (total / n), 0.0)
    if counts.low == counts.high:
        mean, m2 = math.ldexp(counts.low, -exponent), 0.0
    if not wide:
        mean, m2 = math.ldexp(mean, exponent), math.ldexp(m2, 2 * exponent)
        magnitudes, exponent = math.ldexp(magnitudes, exponent), 0
    order = {key: getattr(counts, key) for key in Part.__dataclass_fields__ if key not in ("mean", "m2", "abs_sum")}
    return Part(**order | {"exponent": exponent}, mean=mean, m2=m2, abs_sum=magnitudes)


def _pivot(row: Array, finite: int, first_is_finite: bool) -> float:
    """The row's mean to a multiple of the largest power of two within an eighth of the first element's distance.

    0 if that is less than a quarter of the mean magnitude. `row` is padded with zeros.
    """
    mean = _folded(row) / finite
    if abs(mean) < _folded(np.abs(row)) / finite * 0.25:
        return 0.0
    distance = abs(float(row[0]) - mean)
    if not first_is_finite or distance < 2.0**-1022:
        return mean
    step = math.ldexp(0.125, math.frexp(distance)[1] - 1)
    return mean if abs(mean) >= step * 2.0**50 else round(mean / step) * step  # round: ties to even


def _counts(lanes: Array) -> Part:
    finite = lanes[np.isfinite(lanes)].astype(np.float64)
    return Part(
        count=lanes.size,
        zeros=int((lanes == 0).sum()),
        negatives=int((finite < 0).sum()),
        nan=int(np.isnan(lanes).sum()),
        posinf=int((lanes == math.inf).sum()),
        neginf=int((lanes == -math.inf).sum()),
        low=float(finite.min()) + 0.0 if finite.size else math.inf,  # + 0.0: a zero extreme is positive
        high=float(finite.max()) + 0.0 if finite.size else -math.inf,
    )


def _exponent(largest: float, lane: type) -> int:
    """The power of two that keeps squares in the lane type's range; 0 where none is needed."""
    low, high, limit = (-39, 60, 126) if lane is np.float32 else (-458, 480, 1022)
    if largest == 0 or 2.0**low <= largest < 2.0**high:
        return 0
    return max(-limit, min(limit, math.frexp(largest)[1] - 1))


def _rows(lanes: Array) -> Array:
    """Lane k's sum: four terms a row as (a + b) + (c + d), eight rows in the lane type, and these in float64."""
    terms = np.zeros(BLOCK, lanes.dtype)
    terms[: lanes.size] = lanes
    a, b, c, d = terms.reshape(ROWS, TERMS, LANES).swapaxes(0, 1)
    rows = (a + b) + (c + d)
    whole = np.zeros(LANES)
    for first in range(0, ROWS, LANE_ROWS):
        total = np.zeros(LANES, lanes.dtype)
        for row in rows[first : first + LANE_ROWS]:
            total = total + row
        whole += total.astype(np.float64)
    return whole


def _folded(lanes: Array) -> float:
    """lane[k] += lane[k + width], from half of the lanes (a power of two) down to one."""
    width = lanes.size
    while width > 1:
        width //= 2
        lanes = lanes[:width] + lanes[width : 2 * width]
    return float(lanes[0])


def merge(a: Part, b: Part) -> Part:
    """Chan, Golub and LeVeque's update, at the larger exponent of the two."""
    order = {
        key: getattr(a, key) + getattr(b, key) for key in ("count", "zeros", "negatives", "nan", "posinf", "neginf")
    }
    order |= {"low": min(a.low, b.low), "high": max(a.high, b.high)}
    if a.finite == 0 or b.finite == 0:
        some = b if a.finite == 0 else a
        return Part(**order, mean=some.mean, m2=some.m2, abs_sum=some.abs_sum, exponent=some.exponent)
    exponent = max((p.exponent for p in (a, b) if p.abs_sum != 0), default=a.exponent)
    (mean_a, m2_a, abs_a), (mean_b, m2_b, abs_b) = _at(a, exponent), _at(b, exponent)
    n_a, n_b = float(a.finite), float(b.finite)
    share, delta = n_b / (n_a + n_b), mean_b - mean_a
    m2 = m2_a + (m2_b + delta * delta * (n_a * share))
    return Part(**order, mean=mean_a + delta * share, m2=m2, abs_sum=abs_a + abs_b, exponent=exponent)


def _at(part: Part, exponent: int) -> tuple[float, float, float]:
    shift = part.exponent - exponent if part.abs_sum != 0 else 0
    return math.ldexp(part.mean, shift), math.ldexp(part.m2, 2 * shift), math.ldexp(part.abs_sum, shift)


def fold(blocks: Iterable[Part]) -> Part:
    """Groups of 64 from left to right, then groups of groups."""
    parts: Sequence[Part] = list(blocks) or [Part()]
    while len(parts) > 1:
        groups = [parts[at : at + FOLD] for at in range(0, len(parts), FOLD)]
        parts = [_left_to_right(group) for group in groups]
    return parts[0]


def _left_to_right(group: Sequence[Part]) -> Part:
    whole = group[0]
    for part in group[1:]:
        whole = merge(whole, part)
    return whole


def _table(flat: Array) -> Part:
    """One-byte types: counts of the 256 values tell everything; the sum is exact in units of 2**-17."""
    counts = np.bincount(flat.view(np.uint8), minlength=256).tolist()
    values = np.arange(256, dtype=np.uint8)
    decoded = (values != 0 if flat.dtype == np.bool_ else values.view(flat.dtype)).astype(np.float64).tolist()
    some = [(value, n) for value, n in zip(decoded, counts, strict=True) if n]
    order = _counts(np.array([value for value, _ in some]))
    finite = [(value, n) for value, n in some if math.isfinite(value)]

    def total(kept: Iterable[int]) -> int:
        return sum(kept)

    tally = {
        "count": total(n for _, n in some),
        "zeros": total(n for value, n in some if value == 0),
        "negatives": total(n for value, n in finite if value < 0),
        "nan": total(n for value, n in some if math.isnan(value)),
        "posinf": total(n for value, n in some if value == math.inf),
        "neginf": total(n for value, n in some if value == -math.inf),
    }
    if not finite:
        return Part(**tally)
    units = [(int(value * 2**17), n) for value, n in finite]
    n_finite = float(total(n for _, n in finite))
    mean = float(sum(unit * n for unit, n in units)) * 2.0**-17 / n_finite
    m2 = 0.0
    for value, n in finite:  # in order of the bytes
        d = value - mean
        m2 += float(n) * (d * d)
    abs_sum = float(sum(abs(unit) * n for unit, n in units)) * 2.0**-17
    return Part(**tally, low=order.low, high=order.high, mean=mean, m2=m2, abs_sum=abs_sum)


def _scaled(value: float, power: int) -> float:
    try:
        return math.ldexp(value, power)
    except OverflowError:
        return math.copysign(math.inf, value)


def _derived(p: Part) -> dict[str, Any]:
    n, e, any_finite = float(p.finite), p.exponent, p.finite > 0
    nan = math.nan
    result: dict[str, Any] = {
        key: getattr(p, key) for key in ("count", "zeros", "negatives", "nan", "posinf", "neginf")
    }
    result["nonfinite"] = p.nan + p.posinf + p.neginf
    result["min"], result["max"] = (p.low, p.high) if any_finite else (nan, nan)
    result["mean"] = _scaled(p.mean, e) if any_finite else nan
    result["var"] = _scaled(p.m2 / n, 2 * e) if any_finite else nan
    result["std"] = _scaled(math.sqrt(p.m2 / n), e) if any_finite else nan
    result["sum"] = _scaled(p.mean * n, e)
    result["l1"] = _scaled(p.abs_sum, e)
    result["l2"] = _scaled(math.sqrt(p.m2 + p.mean * p.mean * n), e)
    result["linf"] = max(abs(p.low), abs(p.high)) if any_finite else 0.0
    result["rms"] = _scaled(math.sqrt(p.m2 / n + p.mean * p.mean), e) if any_finite else nan
    result["abs_mean"] = _scaled(p.abs_sum / n, e) if any_finite else nan
    result["zero_fraction"] = p.zeros / p.count if p.count else nan
    result["nonfinite_fraction"] = result["nonfinite"] / p.count if p.count else nan
    return result
