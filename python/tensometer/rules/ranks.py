"""One step in several ranks: when all have it, and where their rows differ."""

from collections.abc import Iterator, Sequence

import numpy as np

from tensometer.rules.group import Array, Group, Part
from tensometer.rules.step import Step

# What summaries of the same bits have in common. Others follow from these.
_FIELDS = ("count", "zeros", "negatives", "nan", "posinf", "neginf", "min", "max", "mean", "l1", "var")


class Together:
    """Holds steps of ranks until all have come by their number.

    ranks: so many are expected, from 0 on; others may join. seconds: a step is waited for until other ranks are so much
    later, by the times of their steps: a rank that has died, or has no monitor, holds nobody up for ever.
    """

    def __init__(self, ranks: int, seconds: float = 60.0) -> None:
        self._seconds = seconds
        # The number of the last step of each rank; infinite after its end.
        self._reached: dict[int, float] = dict.fromkeys(range(ranks), -1)
        self._held: dict[int, dict[int, Step]] = {}
        self._latest = -np.inf
        self._done = -1

    def add(self, step: Step) -> Iterator[list[Step]]:
        """Take in a rank's next step. Yields those that need not wait any more, of all ranks that have them.

        Steps that a single rank has are left out.
        """
        self._reached[step.rank] = step.number
        self._latest = max(self._latest, step.time)
        if step.number > self._done:
            self._held.setdefault(step.number, {})[step.rank] = step
        yield from self._ready()

    def end(self, rank: int) -> Iterator[list[Step]]:
        """A rank has no further steps, unless it is begun again."""
        self._reached[rank] = np.inf
        yield from self._ready()

    def rest(self) -> Iterator[list[Step]]:
        """Nobody has further steps."""
        for number in sorted(self._held):
            yield from self._released(number)

    def _ready(self) -> Iterator[list[Step]]:
        common = min(self._reached.values())
        for number in sorted(self._held):
            begun = min(step.time for step in self._held[number].values())
            if number > common and self._latest - begun <= self._seconds:
                break
            yield from self._released(number)

    def _released(self, number: int) -> Iterator[list[Step]]:
        self._done = number
        found = self._held.pop(number)
        if len(found) > 1:
            yield [found[rank] for rank in sorted(found)]


def in_all(groups: Sequence[Group]) -> list[Group]:
    """The rows of those tensors that all groups have, in one order. Their numbers must be of one catalogue."""
    first, *others = groups
    if all(np.array_equal(first.ids, other.ids) for other in others):
        return list(groups)
    common = first.ids
    for other in others:
        common = np.intersect1d(common, other.ids)
    return [_chosen(group, common) for group in groups]


def _chosen(group: Group, ids: Array) -> Group:
    order = np.argsort(group.ids, kind="stable")
    at = order[np.searchsorted(group.ids, ids, sorter=order)]
    part = group.part
    keys = [part.keys[row] for row in at.tolist()]
    return group.of(Part(part.group, part.phase, part.rows[at], part.ids[at], keys))


def differing(one: Group, other: Group) -> Array:
    """Of rows in one order (see in_all): whether the tensors cannot have the same bits."""
    found = np.zeros(len(one), np.bool_)
    for name in _FIELDS:
        a, b = one[name], other[name]
        found |= (a != b) & ((a == a) | (b == b))  # NaN equals itself here
    return found
