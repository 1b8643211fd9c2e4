"""What a step has captured so far, and what is still to be done with it."""

import math
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from tensometer._core import SummaryTable
from tensometer.capture.batches import Awaited
from tensometer.capture.config import CollectionConfig
from tensometer.store import TensorKey


class Settings(NamedTuple):
    """What tensors must have in common to be summarised and stored together."""

    histogram: bool | str
    resolution: int
    units: bool
    unit_counts: bool
    raw: bool
    due: bool  # to be stored, not only held by the flight recorder


@dataclass(eq=False, slots=True)
class Part:
    """Rows of a step; the table is None as long as a device computes it, and for good if that comes to nothing."""

    phase: str
    keys: Sequence[TensorKey]
    table: SummaryTable | None
    due: bool


class Work(NamedTuple):
    """Something to do once what a device computes is settled, and all that was to be done before it."""

    awaited: Awaited | None
    run: Callable[[], None]


@dataclass(eq=False, slots=True)
class CapturedStep:
    """A step: in progress, or over and waiting for a device."""

    number: int
    due: Mapping[str, CollectionConfig] = field(default_factory=dict)
    captured: Mapping[str, CollectionConfig] = field(default_factory=dict)
    settings: dict[str, Settings] = field(default_factory=dict)
    parts: list[Part] = field(default_factory=list)
    scalars: dict[str, tuple[list[TensorKey], list[float]]] = field(default_factory=dict)  # by phase
    waiting: deque[Work] = field(default_factory=deque)

    def add(self, collections: Mapping[str, CollectionConfig]) -> None:
        """Capture and store these too."""
        self.due, self.captured = {**self.due, **collections}, {**self.captured, **collections}
        self.settings.clear()

    def takes(self, key: TensorKey) -> bool:
        """Whether the collection of a tensor is captured, and lets it in."""
        chosen = self.captured.get(key.collection)
        if chosen is None:
            return False
        elements = 0 if chosen.largest is None else math.prod(key.shape)
        return chosen.takes(key.name, key.facts.get("module_type"), elements)

    def settings_of(self, collection: str, resolution: int) -> Settings:
        """Those of a collection that is captured. resolution: where it has none of its own."""
        found = self.settings.get(collection)
        if found is None:
            chosen, due = self.captured[collection], collection in self.due
            resolution = resolution if chosen.resolution is None else chosen.resolution
            # Not of steps that only the flight recorder holds: whole tensors would fill the memory.
            raw = chosen.save == "raw" and due
            units = (chosen.units, chosen.unit_counts)
            found = self.settings[collection] = Settings(chosen.histogram, resolution, *units, raw, due)
        return found
