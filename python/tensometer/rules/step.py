"""What rules see of a step: its rows by collection, as arrays over tensors."""

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import cached_property
from typing import Any, Protocol

import numpy as np

from tensometer.rules.catalogue import Catalogue, Layout
from tensometer.rules.group import TRAIN, Array, Group, Key
from tensometer.rules.progress import Progress


class Fact(Protocol):
    """An event of a run; see store.Event."""

    @property
    def step(self) -> int:
        """The step that it is of."""

    @property
    def kind(self) -> str:
        """What it tells."""

    @property
    def data(self) -> Mapping[str, Any]:
        """JSON values."""


class _Columns:
    """Statistics of all rows of a step, each made once. It knows nothing of the step, which goes when nobody has it."""

    def __init__(self, make: Callable[[str], Array]) -> None:
        self._make, self._made = make, dict[str, Array]()

    def __call__(self, statistic: str) -> Array:
        found = self._made.get(statistic)
        if found is None:
            found = self._made[statistic] = self._make(statistic).astype(np.float64, copy=False).view()
            found.flags.writeable = False
        return found


class Step:
    """One step of one rank.

    number, time (seconds since 1970), rank. events: since the step before that was captured, but not what follows of
    judging (see feed.AFTERWARDS). catalogue: the numbers of
    tensors. progress: how far training is, this step included.
    """

    progress: Progress
    # The engine's: a step of another run, by where that is, number and rank.
    runs: Callable[[str, int, int], "Step | None"]

    def __init__(
        self,
        number: int,
        time: float,
        rank: int,
        *,
        catalogue: Catalogue,
        parts: Sequence[tuple[str, Sequence[Key]]],
        column: Callable[[str], Array],
        events: Sequence[Fact] = (),
    ) -> None:
        self.number, self.time, self.rank, self.events = number, time, rank, events
        self.catalogue, self._parts = catalogue, parts
        self._column, self._statistic = column, _Columns(column)
        self._groups: dict[tuple[str, str], Group] = {}
        self._scalars: dict[tuple[str, str], dict[str, float]] = {}

    @cached_property
    def _layout(self) -> Layout:
        # When it is asked for: what is held for other ranks to come by may never be.
        return self.catalogue.layout(self._parts)

    def group(self, name: str, phase: str = TRAIN) -> Group:
        """The rows of a collection (`gradients`), or of what is said of its tensors (`updates/ratio`).

        ValueError for a name that is no group's.
        """
        found = self._groups.get((name, phase))
        if found is None:
            part = self._layout.part(name, phase)
            found = self._groups[name, phase] = Group(part, self._statistic)
        return found

    def of_run(self, url: str) -> "Step | None":
        """The same step of another run, with the same numbers of tensors; None where that has none.

        FileNotFoundError where there is no run.
        """
        return self.runs(url, self.number, self.rank)

    def numbered_by(self, catalogue: Catalogue) -> "Step":
        """The same step with the numbers of another catalogue: those of several ranks are compared by one."""
        about = (self.number, self.time, self.rank)
        return Step(*about, catalogue=catalogue, parts=self._parts, column=self._column, events=self.events)

    def has(self, groups: tuple[str, ...]) -> bool:
        """Whether this step of training has rows of all these groups."""
        return self._layout.has(groups)

    @property
    def groups(self) -> Collection[str]:
        """The groups that have rows in this step, in any phase."""
        return self._layout.phases.keys()

    @property
    def collections(self) -> frozenset[str]:
        """The collections that have rows in this step, in any phase."""
        return self._layout.collections

    def phases(self, name: str) -> Sequence[str]:
        """The phases that have rows of a group in this step."""
        return self._layout.phases.get(name, ())

    def scalars(self, collection: str, phase: str = TRAIN) -> dict[str, float]:
        """Numbers of this step by name: of losses, metrics or loop."""
        found = self._scalars.get((collection, phase))
        if found is None:
            group = self.group(collection, phase)
            found = dict(zip(group.names, self._of_scalars(group), strict=True))
            self._scalars[collection, phase] = found
        return found

    def _of_scalars(self, group: Group) -> list[float]:
        # The mean of one finite element is that element; of one that is not finite, the counts tell which.
        values = group["mean"]
        if group["nonfinite"].any():
            kinds = [group[kind] > 0 for kind in ("nan", "posinf", "neginf")]
            values = np.select(kinds, [np.nan, np.inf, -np.inf], values)
        return list(values.tolist())
