"""What a rule has found."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any


class Severity(IntEnum):
    """How bad a finding is; comparable.

    INFO: worth knowing, nothing is wrong. WARNING: training is likely worse than it could be. ERROR: it will not come
    to a useful end as it is. FATAL: it is broken already; what follows is waste.
    """

    INFO = 1
    WARNING = 2
    ERROR = 3
    FATAL = 4

    @property
    def label(self) -> str:
        """The word used in files, settings and on the command line."""
        return self.name.lower()

    @classmethod
    def of(cls, value: object) -> "Severity":
        """A severity, or the word for one. ValueError for anything else."""
        if isinstance(value, Severity):
            return value
        words = [one.label for one in cls]
        if not isinstance(value, str) or value not in words:
            raise ValueError(f"severity: {value!r} is none of {', '.join(words)}")
        return cls[value.upper()]

    def __str__(self) -> str:
        return self.label

    def __format__(self, form: str) -> str:
        return format(self.label, form)


@dataclass(frozen=True)
class Finding:
    """Something that a rule has found at a step.

    tensor: the first in the order of execution of those that it is about ("" if it is about the run as a whole);
    others: the rest of them. value, threshold: the numbers that were compared, of that tensor. window: the first and
    last step of the observations that led to it. kind: which of a rule's conditions, where it has several. repeated:
    whether the same was found before, of the same tensors, and goes on or has come back.
    """

    rule: str
    severity: Severity
    step: int
    rank: int
    tensor: str
    others: tuple[str, ...]
    collection: str
    phase: str
    kind: str
    value: float
    threshold: float
    window: tuple[int, int]
    sentence: str
    causes: tuple[str, ...]
    remedies: tuple[str, ...]
    repeated: bool = False

    def to_dict(self) -> dict[str, Any]:
        """JSON values, as findings.jsonl keeps them; from_dict() takes them. Numbers that are not finite are texts."""
        values = dataclasses.asdict(self)
        values["severity"] = self.severity.label
        for name in ("others", "window", "causes", "remedies"):
            values[name] = list(values[name])
        for name in ("value", "threshold"):
            number = values[name]
            values[name] = number if abs(number) < float("inf") else str(number)
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Finding":
        """A finding from the values of to_dict(). KeyError, TypeError or ValueError for others."""
        given = {one.name: values[one.name] for one in dataclasses.fields(cls)}
        given["severity"] = Severity.of(given["severity"])
        for name in ("others", "causes", "remedies"):
            given[name] = tuple(map(str, given[name]))
        first, last = given["window"]
        given["window"] = (int(first), int(last))
        for name in ("value", "threshold"):
            given[name] = float(given[name])
        return cls(**given)

    def __str__(self) -> str:
        return f"step {self.step}: {self.rule} ({self.severity.label}): {self.sentence}"
