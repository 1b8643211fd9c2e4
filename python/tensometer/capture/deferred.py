"""Tensors that are computed if, and when, a monitor captures them."""

from collections.abc import Callable
from typing import Any

import numpy as np


class Deferred:
    """A tensor for Monitor.record, or a number for Monitor.step, that costs nothing in a step that is not captured.

    compute: called at most once. Its errors are the monitor's, like all errors of capture. on_device: a tensor on a
    CUDA device, which is taken as it is instead.
    """

    def __init__(self, compute: Callable[[], Any], on_device: Any = None) -> None:
        self._compute, self._on_device = compute, on_device
        self._array: np.ndarray[Any, Any] | None = None

    def tensor(self) -> Any:
        """What a monitor captures: this, or the tensor on a device, which counts as computed then."""
        if self._on_device is None:
            return self
        tensor, self._on_device, self._compute = self._on_device, None, _nothing
        return tensor

    @property
    def taken(self) -> bool:
        """Whether it was computed."""
        return self._array is not None or self._compute is _nothing

    @property
    def __array_interface__(self) -> dict[str, Any]:
        # An AttributeError would only say that this is no tensor.
        try:
            return self._value().__array_interface__
        except AttributeError as error:
            raise RuntimeError(f"AttributeError: {error}") from error

    def item(self) -> Any:
        """The only element."""
        return self._value().item()

    def _value(self) -> np.ndarray[Any, Any]:
        if self._array is None:
            self._array = np.asarray(self._compute())
        return self._array


def _nothing() -> None:
    """Stands where there is nothing to compute any more."""
