"""What a monitor captures, when, and in what detail."""

import dataclasses
import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

# In the order in which a run shows them. Activations take a hook a module, and are asked for by name.
COLLECTIONS = ("weights", "biases", "gradients", "activations", "losses", "metrics", "custom")
DEFAULT_COLLECTIONS = ("weights", "biases", "gradients", "losses", "metrics", "custom")


@dataclass(frozen=True)
class CollectionConfig:
    """One collection. include, exclude: expressions searched for in names. every: None for the monitor's own.

    histogram: True, False, or "sampled": all of small tensors, about an eighth of those beyond 262,144 elements, whose
    full histogram takes three times as long as all the other statistics.
    """

    include: str | None = None
    exclude: str | None = None
    every: int | None = None
    histogram: bool | str = "sampled"

    def __post_init__(self) -> None:
        for name in ("include", "exclude"):
            _check_expression(name, getattr(self, name))
        if self.every is not None:
            _check_whole("every", self.every, 1)
        if self.histogram not in (True, False, "sampled"):
            raise ValueError(f"histogram: {self.histogram!r} is not True, False or 'sampled'")

    def takes(self, name: str) -> bool:
        """Whether the collection wants a tensor of that name."""
        included = self.include is None or re.search(self.include, name) is not None
        return included and (self.exclude is None or re.search(self.exclude, name) is None)


@dataclass(frozen=True)
class MonitorConfig:
    """All settings of a monitor. TypeError or ValueError, naming the key, for values that mean nothing.

    every, start, stop: steps start, start + every, ... below stop are captured. collections: what is captured, by name.
    resolution: bins an octave are 2 to this power (0 to 7). threads: None for the engine's default.
    flush_seconds: how long a summary may wait before it is stored.
    """

    every: int = 10
    start: int = 0
    stop: int | None = None
    resolution: int = 3
    threads: int | None = None
    flush_seconds: float = 5.0
    collections: Mapping[str, CollectionConfig] = field(
        default_factory=lambda: {name: CollectionConfig() for name in DEFAULT_COLLECTIONS}
    )

    def __post_init__(self) -> None:
        _check_whole("every", self.every, 1)
        _check_whole("start", self.start, 0)
        if self.stop is not None:
            _check_whole("stop", self.stop, 0)
        for name in self.collections:
            if name not in COLLECTIONS:
                raise ValueError(f"collections: {_unknown(name, COLLECTIONS)}")

    def samples(self, step: int, collection: str) -> bool:
        """Whether a collection is captured at a step."""
        chosen = self.collections.get(collection)
        if chosen is None or step < self.start or (self.stop is not None and step >= self.stop):
            return False
        return (step - self.start) % (chosen.every or self.every) == 0

    def samples_any(self, step: int) -> bool:
        """Whether anything is captured at a step."""
        return any(self.samples(step, name) for name in self.collections)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as run.json keeps them and from_dict takes them."""
        return dataclasses.asdict(self) | {
            "collections": {name: dataclasses.asdict(one) for name, one in self.collections.items()}
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "MonitorConfig":
        """Settings from plain values, such as those of a TOML file. A wrong key is a ValueError that names the nearest.

        collections: a list of names, or a mapping from names to their settings (true for the defaults, false for none).
        """
        settings = dict(_known("config", values, cls))
        if "collections" in settings:
            settings["collections"] = _collections(settings["collections"])
        return cls(**settings)


def _collections(given: object) -> dict[str, CollectionConfig]:
    if isinstance(given, Mapping):
        chosen = {name: value for name, value in given.items() if value is not False}
    elif isinstance(given, list | tuple | set | frozenset):
        chosen = dict.fromkeys(given, True)
    else:
        raise TypeError(f"collections: {given!r} is neither a list of names nor a mapping")
    result = {}
    for name, value in chosen.items():
        if isinstance(value, CollectionConfig):
            result[name] = value
        elif value is True:
            result[name] = CollectionConfig()
        elif isinstance(value, Mapping):
            result[name] = CollectionConfig(**_known(f"collections.{name}", value, CollectionConfig))
        else:
            raise TypeError(f"collections.{name}: {value!r} is neither true, false nor a mapping of settings")
    return result


def _known(place: str, values: Mapping[str, Any], kind: type[Any]) -> Mapping[str, Any]:
    if not isinstance(values, Mapping):
        raise TypeError(f"{place}: {values!r} is not a mapping of settings")
    names = [one.name for one in dataclasses.fields(kind)]
    for key in values:
        if key not in names:
            raise ValueError(f"{place}: {_unknown(str(key), names)}")
    return values


def _unknown(name: str, known: "tuple[str, ...] | list[str]") -> str:
    nearest = difflib.get_close_matches(name, known, 1, 0)
    return f"{name!r} is unknown; did you mean {nearest[0]!r}? Known are {', '.join(known)}"


def _check_whole(name: str, value: object, least: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{name}: {value!r} is not a whole number")
    if value < least:
        raise ValueError(f"{name}: {value} is less than {least}")


def _check_expression(name: str, value: object) -> None:
    if value is None:
        return
    if not isinstance(value, str):
        raise TypeError(f"{name}: {value!r} is not a regular expression")
    try:
        re.compile(value)
    except re.error as error:
        raise ValueError(f"{name}: {value!r} is not a regular expression: {error}") from error
