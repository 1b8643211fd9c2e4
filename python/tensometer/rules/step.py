"""What rules see of a step: its rows by collection, as arrays over tensors."""

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from tensometer.names import check_group, split_name
from tensometer.rules.progress import Progress

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
