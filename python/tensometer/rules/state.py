"""What a rule remembers of the steps so far: plain values that can be saved."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from tensometer.rules.group import Array


class State:
    """Numbers, texts, lists of them, and arrays, by name. Nothing else: so it can be saved and read anywhere."""

    def __init__(self, values: Mapping[str, Any] | None = None) -> None:
        self._values: dict[str, Any] = dict(values or {})

    def __getitem__(self, name: str) -> Any:
        return self._values[name]

    def __setitem__(self, name: str, value: Any) -> None:
        self._values[name] = value

    def __contains__(self, name: str) -> bool:
        return name in self._values

    def get(self, name: str, default: Any = None) -> Any:
        """The value, or the default where there is none yet."""
        return self._values.get(name, default)

    def of_tensors(self, name: str, count: int, fill: float | int | bool) -> Array:
        """An array with one element a tensor, filled at first; it grows as tensors appear. Change it in place.

        count: at least how many elements, as len(step.catalogue).
        """
        found: Array | None = self._values.get(name)
        if found is None or len(found) < count:
            # Room for more, so that it does not grow at every new name.
            grown = np.full(max(64, 2 * count), fill)
            if found is not None:
                grown[: len(found)] = found
            found = self._values[name] = grown
        return found

    def values(self) -> dict[str, Any]:
        """Everything that is remembered: copies, from which State() goes on."""
        return {name: value.copy() if hasattr(value, "copy") else value for name, value in self._values.items()}
