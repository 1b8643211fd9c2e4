"""Tensors that are computed if, and when, a monitor captures them."""

from collections.abc import Callable
from typing import Any

import numpy as np


class Deferred:
    """A tensor for Monitor.record, or a number for Monitor.step, that costs nothing in a step that is not captured.

    compute: called at most once. Its errors are the monitor's, like all errors of capture.
    """

    def __init__(self, compute: Callable[[], Any]) -> None:
        self._compute = compute
        self._array: np.ndarray[Any, Any] | None = None

    @property
    def taken(self) -> bool:
        """Whether it was computed."""
        return self._array is not None

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
