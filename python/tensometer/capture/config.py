"""What a monitor captures, when, and in what detail."""

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tensometer.capture.checks import (
    check_choice,
    check_expression,
    check_range,
    check_seconds,
    check_text,
    check_whole,
    checked_tuple,
    known,
)
from tensometer.names import COLLECTIONS, split_name, unknown

MAX_RESOLUTION = 7

# Activations take a hook a module, updates a copy of the weights, and an optimizer's state is once or twice as large as
# the weights: those are asked for by name.
_ASKED_FOR = ("updates", "activations", "optimizer_state")
DEFAULT_COLLECTIONS = tuple(name for name in COLLECTIONS if name not in _ASKED_FOR)
SAVES = ("summary", "raw")
# What models, their hooks and the writer were made with.
FIXED_SETTINGS = ("micro_batches", "clipping", "flush_seconds")
_NO_CHOICE = "cannot be chosen: one pass computes all, and a row of them takes some 24 bytes whichever are kept"


@dataclass(frozen=True)
class CollectionConfig:
    """One collection.

    include, exclude: expressions searched for in names. module_types: names of classes; only tensors of such modules.
    largest: tensors of more elements are left out. phases: only these; None for all.
    every, start, stop: as the monitor's; None for the monitor's own. steps: exactly these instead. seconds: the first
    step after so many seconds instead. histogram: True, False, or "sampled": of tensors beyond 65,536 elements a part
    (an eighth of the largest), because their full histogram takes three times as long as all the other statistics.
    resolution: None for the monitor's own. units: also summarise every unit (row of a weight, channel or feature of an
    activation) under the name with "/units" behind it. unit_counts: of tensors with units, the fraction of them that is
    inactive (no element above zero), constant, or identical to another (of weights), as rows NAME/inactive_units,
    NAME/constant_units, NAME/identical_units; and as NAME/unit_spread how far the elements of one unit lie apart, the
    root of the mean of all units' variances. class_counts: of labels, how often each class is the label, and what is
    predicted instead, as events `classes`. save: "raw" keeps the whole tensors as well.
    """

    include: str | None = None
    exclude: str | None = None
    module_types: tuple[str, ...] | None = None
    largest: int | None = None
    phases: tuple[str, ...] | None = None
    every: int | None = None
    start: int | None = None
    stop: int | None = None
    steps: tuple[int, ...] | None = None
    seconds: float | None = None
    histogram: bool | str = "sampled"
    resolution: int | None = None
    units: bool = False
    unit_counts: bool = False
    class_counts: bool = False
    save: str = "summary"

    def __post_init__(self) -> None:
        for name in ("include", "exclude"):
            check_expression(name, getattr(self, name))
        for name in ("module_types", "phases", "steps"):
            kind = int if name == "steps" else str
            object.__setattr__(self, name, checked_tuple(name, getattr(self, name), kind))
        for name, least in (("largest", 0), ("every", 1), ("start", 0), ("stop", 0)):
            check_whole(name, getattr(self, name), least, optional=True)
        check_whole("resolution", self.resolution, 0, MAX_RESOLUTION, optional=True)
        check_seconds("seconds", self.seconds, optional=True)
        check_choice("histogram", self.histogram, (True, False, "sampled"))
        check_choice("units", self.units, (True, False))
        check_choice("unit_counts", self.unit_counts, (True, False))
        check_choice("class_counts", self.class_counts, (True, False))
        check_choice("save", self.save, SAVES)
        if sum(value is not None for value in (self.every, self.steps, self.seconds)) > 1:
            raise ValueError("every, steps, seconds: only one of them can say when a collection is captured")

    def takes(self, name: str, module_type: str | None, elements: int) -> bool:
        """Whether the collection wants a tensor of that name and size, which belongs to a module of that type.

        What rows say of a tensor goes with it.
        """
        tensor, _ = split_name(name)
        return (
            (self.include is None or re.search(self.include, tensor) is not None)
            and (self.exclude is None or re.search(self.exclude, tensor) is None)
            and (self.module_types is None or module_type in self.module_types)
            and (self.largest is None or elements <= self.largest)
        )


def _defaults(name: str) -> CollectionConfig:
    # Masks and tables of positions never change; statistics of normalisations do.
    return CollectionConfig(include="running_") if name == "buffers" else CollectionConfig()


@dataclass(frozen=True)
class MonitorConfig:
    """All settings of a monitor. TypeError or ValueError, naming the key, for values that mean nothing.

    every, start, stop: steps start, start + every, ... below stop are captured. dense: besides, the first so many from
    start on; None for none, or, of a monitor with rules that is not told `every`, 500. collections: exactly these are
    captured, by name; from_dict() takes lists of names, and changes of the defaults. resolution: bins an octave are 2
    to this power (0 to 7). threads: None for the engine's default. flush_seconds: how long a summary may wait before it
    is stored. close_seconds: how long close() waits for a place that takes nothing, before it drops what is left.
    recorder: so many steps are captured whole and kept in memory, to be written when something happens; 0 for none.
    micro_batches: record the activations, inputs, predictions and labels of every forward pass of a step, not of the
    first alone. clipping: record the gradients' norm as the last backward pass left it, before clipping, which takes
    one more pass over the gradients.
    """

    every: int = 10
    start: int = 0
    stop: int | None = None
    dense: int | None = None
    resolution: int = 3
    threads: int | None = None
    flush_seconds: float = 5.0
    close_seconds: float = 30.0
    recorder: int = 0
    micro_batches: bool = False
    clipping: bool = False
    collections: Mapping[str, CollectionConfig] = field(
        default_factory=lambda: {name: _defaults(name) for name in DEFAULT_COLLECTIONS}
    )

    def __post_init__(self) -> None:
        check_whole("every", self.every, 1)
        check_whole("start", self.start, 0)
        check_whole("stop", self.stop, 0, optional=True)
        check_whole("dense", self.dense, 0, optional=True)
        check_whole("resolution", self.resolution, 0, MAX_RESOLUTION)
        check_whole("threads", self.threads, 1, optional=True)
        check_whole("recorder", self.recorder, 0)
        check_seconds("flush_seconds", self.flush_seconds)
        check_seconds("close_seconds", self.close_seconds)
        check_choice("micro_batches", self.micro_batches, (True, False))
        check_choice("clipping", self.clipping, (True, False))
        check_range("start", self.start, self.stop)
        if not isinstance(self.collections, Mapping):
            raise TypeError(
                f"collections: {self.collections!r} is not a mapping from names to CollectionConfig;"
                " lists of names are for MonitorConfig.from_dict"
            )
        for name, chosen in self.collections.items():
            check_collection("collections", name)
            if not isinstance(chosen, CollectionConfig):
                raise TypeError(
                    f"collections.{name}: {chosen!r} is not a CollectionConfig; plain values are for"
                    " MonitorConfig.from_dict"
                )
            check_range(f"collections.{name}.start", *self.span(chosen))

    def span(self, chosen: CollectionConfig) -> tuple[int, int | None]:
        """The first step at which a collection may be captured, and the one before which it ends."""
        start = self.start if chosen.start is None else chosen.start
        return start, self.stop if chosen.stop is None else chosen.stop

    def keeping_fixed(self, before: "MonitorConfig") -> "MonitorConfig":
        """These settings, but for FIXED_SETTINGS those of before."""
        return dataclasses.replace(self, **{name: getattr(before, name) for name in FIXED_SETTINGS})

    def differing(self, other: "MonitorConfig") -> list[str]:
        """Names of the settings that another has otherwise."""
        names = (one.name for one in dataclasses.fields(self))
        return [name for name in names if getattr(self, name) != getattr(other, name)]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as run.json keeps them and from_dict takes them."""
        chosen = {name: self.collections.get(name) for name in COLLECTIONS}
        return dataclasses.asdict(self) | {
            "collections": {name: False if one is None else dataclasses.asdict(one) for name, one in chosen.items()}
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "MonitorConfig":
        """Settings from plain values, such as those of a TOML file. A wrong key is a ValueError that names the nearest.

        collections: a list of exactly those wanted; or a mapping from names to true, false or settings, which changes
        the defaults.
        """
        settings = dict(known("config", values, cls))
        if "collections" in settings:
            settings["collections"] = _collections(settings["collections"])
        return cls(**settings)


def check_collection(argument: str, name: object) -> None:
    """The name of a collection. TypeError or ValueError, which names the nearest, for anything else."""
    check_text(argument, name)
    if name not in COLLECTIONS:
        raise ValueError(f"{argument}: {unknown(str(name), COLLECTIONS)}")


def _collections(given: object) -> dict[str, CollectionConfig]:
    if not isinstance(given, Mapping | list | tuple | set | frozenset):
        raise TypeError(f"collections: {given!r} is neither a list of names nor a mapping")
    for name in given:
        check_collection("collections", name)
    if isinstance(given, Mapping):
        changed = dict.fromkeys(DEFAULT_COLLECTIONS, True) | dict(given)
        chosen = {name: value for name, value in changed.items() if value is not False}
    else:
        chosen = dict.fromkeys(given, True)
    result = {}
    for name, value in chosen.items():
        if isinstance(value, CollectionConfig):
            result[name] = value
        elif value is True:
            result[name] = _defaults(name)
        elif isinstance(value, Mapping):
            if "statistics" in value:
                raise ValueError(f"collections.{name}.statistics: {_NO_CHOICE}")
            settings = {**dataclasses.asdict(_defaults(name)), **known(f"collections.{name}", value, CollectionConfig)}
            try:
                result[name] = CollectionConfig(**settings)
            except (TypeError, ValueError) as error:
                raise type(error)(f"collections.{name}.{error}") from None
        else:
            raise TypeError(f"collections.{name}: {value!r} is neither true, false nor a mapping of settings")
    return result
