"""The numbers of a run's tensors, and where the groups of a step are."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tensometer.names import check_group, split_name
from tensometer.rules.group import TRAIN, Key, Part


class Layout:
    """Where the groups of a step are, by their names and phases. What a row says of a tensor is another group's.

    phases: those of each group. collections: those of the groups.
    """

    def __init__(self, parts: Mapping[tuple[str, str], Part]) -> None:
        self._parts = dict(parts)
        self.phases: dict[str, list[str]] = {}
        for group, phase in parts:
            self.phases.setdefault(group, []).append(phase)
        self.collections = frozenset(group.partition("/")[0] for group in self.phases)
        self._has: dict[tuple[str, ...], bool] = {}

    def has(self, groups: tuple[str, ...]) -> bool:
        """Whether training has rows of all of these."""
        found = self._has.get(groups)
        if found is None:
            found = self._has[groups] = all(TRAIN in self.phases.get(group, ()) for group in groups)
        return found

    def part(self, group: str, phase: str) -> Part:
        """Where a group is: an empty part, if nowhere. ValueError for a name that is no group's."""
        found = self._parts.get((group, phase))
        if found is None:
            check_group(group)
            found = self._parts[group, phase] = Part(group, phase, _NONE, _NONE, ())
        return found


class Catalogue:
    """The numbers of a run's tensors, and where groups are in steps of the layouts seen so far.

    asked: the statistics that rules have read so far.
    """

    # Steps that capture by different cadences have different layouts; a run has a few.
    _MOST_LAYOUTS = 64

    def __init__(self) -> None:
        self._ids: dict[str, int] = {}
        self._layouts: dict[tuple[Any, ...], tuple[Any, Layout]] = {}
        self._others: dict[tuple[str, str], Part] = {}
        self.asked: dict[str, None] = {}

    def __len__(self) -> int:
        return len(self._ids)

    @property
    def names(self) -> list[str]:
        """Names in the order of their numbers."""
        return list(self._ids)

    def number(self, name: str) -> int:
        """The number of a tensor's name, which is a new one if need be."""
        return self._ids.setdefault(name, len(self._ids))

    def of_no_tensor(self, name: str, collection: str) -> Part:
        """A single row about something else."""
        found = self._others.get((name, collection))
        if found is None:
            ids = np.array([self.number(name)], np.intp)
            found = Part(collection, TRAIN, _FIRST, ids, (_About(name, collection),))
            self._others[name, collection] = found
        return found

    def layout(self, parts: Sequence[tuple[str, Sequence[Key]]]) -> Layout:
        """Of a step whose rows are those of the parts, each a phase and keys, one part after another.

        Remembered by the lists of keys themselves, which must not change.
        """
        mark = tuple((phase, id(keys)) for phase, keys in parts)
        found = self._layouts.get(mark)
        if found is None:
            if len(self._layouts) >= self._MOST_LAYOUTS:
                self._layouts.clear()
            # The lists are kept with it, so that no other comes to have their id.
            found = self._layouts[mark] = (list(parts), self._made(parts))
        return found[1]

    def _made(self, parts: Sequence[tuple[str, Sequence[Key]]]) -> Layout:
        places: dict[tuple[str, str], list[tuple[int, int, Key]]] = {}
        row = 0
        for phase, keys in parts:
            for key in keys:
                name, suffix = split_name(key.name)
                group = f"{key.collection}/{suffix}" if suffix else key.collection
                places.setdefault((group, phase), []).append((row, self.number(name), key))
                row += 1
        made: dict[tuple[str, str], Part] = {}
        for (group, phase), found in places.items():
            rows, ids, keys = zip(*found, strict=True)
            made[group, phase] = Part(group, phase, np.array(rows, np.intp), np.array(ids, np.intp), keys)
        return Layout(made)


class _About:
    """The key of what is no tensor."""

    def __init__(self, name: str, collection: str) -> None:
        self.name, self.collection = name, collection
        self.dtype, self.shape, self.facts = "float64", (), dict[str, Any]()


_NONE, _FIRST = np.zeros(0, np.intp), np.zeros(1, np.intp)
