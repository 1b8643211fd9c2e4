"""The tensors that are measured: values as weights have them, a few exact zeros among them."""

from functools import lru_cache
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from benchmarks.scale import Scale

Array: TypeAlias = npt.NDArray[Any]


@lru_cache(maxsize=1)
def _base(count: int) -> Array:
    values = np.random.default_rng(20240229).standard_normal(count, dtype=np.float32)
    values *= np.float32(0.02)
    values[::61] = 0.0
    return values


def weights(scale: Scale, nbytes: int | None = None) -> Array:
    """A float32 vector of `nbytes` bytes; without a number, the one that no cache holds."""
    count = scale.clip(scale.largest if nbytes is None else nbytes) // 4
    return _base(scale.largest // 4)[:count]


def as_dtype(values: Array, dtype: str) -> Array:
    """The same tensor in another dtype; integers use the range that the dtype has."""
    if dtype == "bool":
        return values > 0
    if dtype.startswith(("int", "uint")):
        info = np.iinfo(dtype)
        low, high = (0, min(info.max, 10**6)) if info.min == 0 else (max(info.min, -(10**6)), min(info.max, 10**6))
        return np.clip(values * np.float32(high / 0.08), low, high).astype(dtype)
    if dtype in ("bfloat16", "float8_e4m3fn", "float8_e5m2"):
        import ml_dtypes

        return values.astype(getattr(ml_dtypes, dtype))
    return values.astype(dtype)
