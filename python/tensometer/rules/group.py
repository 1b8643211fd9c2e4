"""Rows of a step: where those of a group are, and their statistics as arrays."""

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from tensometer.names import split_name

Array = npt.NDArray[Any]
Indices = npt.NDArray[np.intp]

TRAIN = "train"


class Key(Protocol):
    """What a row is about; see store.TensorKey."""

    @property
    def name(self) -> str:
        """That of the tensor, and what the row says of it; see names."""

    @property
    def collection(self) -> str:
        """The collection that it belongs to."""

    @property
    def dtype(self) -> str:
        """The tensor's dtype."""

    @property
    def shape(self) -> tuple[int, ...]:
        """The tensor's shape."""

    @property
    def facts(self) -> Mapping[str, Any]:
        """What is known of it: requires_grad, module_type and so on."""


Where = Callable[[Key], bool]


class Part:
    """Where the rows of one group are in a step, and what they are about; the same in most steps.

    ids: the number of each row's tensor, the same in every step and group: what a rule remembers of tensors are arrays
    over these numbers. Rows of one tensor in several groups (a weight, its gradient, its update) have the same.
    span: the ids, as a slice where they follow each other.
    """

    def __init__(self, group: str, phase: str, rows: Indices, ids: Indices, keys: Sequence[Key]) -> None:
        self.group, self.phase, self.rows, self.ids, self.keys = group, phase, rows, ids, keys
        self._at, self.span = _span(rows), _span(ids)
        self._subsets: dict[Any, Part] = {}
        self._facts: dict[str, Array] = {}
        self._each: dict[Any, Array] = {}
        self._beside: dict[Part, tuple[Indices, Indices]] = {}

    def of(self, column: Array) -> Array:
        """The part's rows of a column of the step, which cannot be changed."""
        rows: Array = column[self._at]
        if not isinstance(self._at, slice):
            rows.flags.writeable = False
        return rows

    def subset(self, where: Where) -> "Part":
        """The rows whose keys `where` lets in; remembered by it, which is a function that lives on."""
        found = self._subsets.get(where)
        if found is None:
            kept = np.array([at for at, key in enumerate(self.keys) if where(key)], np.intp)
            keys = [self.keys[at] for at in kept.tolist()]
            found = Part(self.group, self.phase, self.rows[kept], self.ids[kept], keys)
            self._subsets[where] = found
        return found

    def facts(self, name: str, default: Any) -> Array:
        """A fact of each row's tensor, as an array of the default's type. The default also stands for null."""
        found = self._facts.get(name)
        if found is None:
            values = [key.facts.get(name) for key in self.keys]
            found = np.array([default if value is None else value for value in values], type(default))
            self._facts[name] = found
        return found

    def each(self, number: Callable[[Key], float]) -> Array:
        """A number of each row's key; remembered by the function, which lives on."""
        found = self._each.get(number)
        if found is None:
            found = self._each[number] = np.array([number(key) for key in self.keys], np.float64)
        return found

    def beside(self, other: "Part") -> tuple[Indices, Indices]:
        """Where another part has each row's tensor (anywhere, if nowhere), and which rows have theirs nowhere."""
        found = self._beside.get(other)
        if found is None:
            places = {number: at for at, number in enumerate(other.ids.tolist())}
            all_places = np.array([places.get(number, -1) for number in self.ids.tolist()], np.intp)
            found = self._beside[other] = (np.maximum(all_places, 0), np.flatnonzero(all_places < 0))
        return found

    @cached_property
    def names(self) -> list[str]:
        """Names of the tensors, without what rows say of them."""
        return [split_name(key.name)[0] for key in self.keys]

    @cached_property
    def sizes(self) -> npt.NDArray[np.int64]:
        """Numbers of elements."""
        return np.array([np.prod(key.shape, dtype=np.int64) for key in self.keys], np.int64)


def _span(rows: Indices) -> Indices | slice:
    """The same rows, as a slice where they follow each other: which copies nothing."""
    if len(rows) and (np.diff(rows) == 1).all():
        return slice(int(rows[0]), int(rows[-1]) + 1)
    return rows


class Group:
    """The rows of one group in one step. Any statistic of Summary is an array over them: `group["l2"]`.

    It may be empty: then so are its arrays. Arrays are shared among rules, and cannot be changed.
    """

    def __init__(self, part: Part, column: Callable[[str], Array]) -> None:
        self.part, self._column = part, column
        self._found: dict[str, Array] = {}
        self._others: dict[Part, Group] = {}

    def __len__(self) -> int:
        return len(self.part.ids)

    def __getitem__(self, statistic: str) -> Array:
        """A statistic of every row, as float64. ValueError for an unknown name."""
        found = self._found.get(statistic)
        if found is None:
            found = self._found[statistic] = self.part.of(self._column(statistic))
        return found

    @property
    def ids(self) -> Indices:
        """The number of each row's tensor; see Part."""
        return self.part.ids

    @property
    def names(self) -> list[str]:
        """The name of each row's tensor."""
        return self.part.names

    @property
    def keys(self) -> Sequence[Key]:
        """What each row is about."""
        return self.part.keys

    @property
    def sizes(self) -> npt.NDArray[np.int64]:
        """How many elements each row's tensor has."""
        return self.part.sizes

    def facts(self, name: str, default: Any) -> Array:
        """A fact of each row's tensor; see Part."""
        return self.part.facts(name, default)

    def each(self, number: Callable[[Key], float]) -> Array:
        """A number of each row's key; see Part."""
        return self.part.each(number)

    def where(self, where: Where) -> "Group":
        """The rows whose keys `where` lets in: a function that lives on, as the choice is remembered by it."""
        return self.of(self.part.subset(where))

    def of(self, part: Part) -> "Group":
        """Other rows of the same step."""
        found = self._others.get(part)
        if found is None:
            found = self._others[part] = Group(part, self._column)
        return found
