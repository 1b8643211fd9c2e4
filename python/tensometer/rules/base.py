"""What a rule is."""

import dataclasses
import inspect
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from string import Formatter
from typing import Any, ClassVar, dataclass_transform

import numpy as np

from tensometer.names import COLLECTIONS, check_group, unknown
from tensometer.rules.finding import Severity
from tensometer.rules.group import TRAIN, Array, Group, Key, Where
from tensometer.rules.state import State
from tensometer.rules.step import Step

_NOTHING: Mapping[str, Any] = {}


@dataclass(slots=True)
class Condition:
    """Rows that a rule has judged in a step. What follows of it is the engine's: patience, repetition, the Finding.

    holds: of each row, whether it is as the rule says. value, threshold: the numbers that were compared, of each row or
    of all. sentence: what a person reads, with {tensor}, {value}, {threshold} and the names of `more` in braces, as
    format strings have them. kind: tells a rule's conditions apart; of one kind there is one a step and phase.
    severity, patience: other than the rule's own.
    """

    rows: Group
    holds: Array
    sentence: str
    value: Array | float
    threshold: Array | float
    more: Mapping[str, Array | Sequence[Any] | float | str] = dataclasses.field(default_factory=lambda: _NOTHING)
    kind: str = ""
    severity: Severity | None = None
    patience: int | None = None


@dataclass_transform(kw_only_default=True, frozen_default=True)
@dataclass(frozen=True, kw_only=True)
class Rule:
    """A condition of training that can be told from summaries.

    A subclass declares what it `needs` and `wants`, its thresholds as annotated attributes with defaults, and check().
    It is a frozen dataclass without saying so: `VanishingGradient(ratio=1e-5, patience=3)`. It is pure: what it
    remembers is in the state that it is given. Its docstring says the condition as a formula, where the defaults come
    from, what it costs, and which healthy runs look alike.

    severity: of its findings. warmup: so many observations are not judged. patience: so many in a row must be as the
    condition says. cooldown: so many steps lie between two findings about the same tensor. include, exclude:
    expressions searched for in names of tensors; module_types: names of classes; collections: the roles of tensors, as
    names of collections. Thresholds that mean nothing are a TypeError or ValueError that names them.
    """

    # Groups of rows (`gradients`, `updates/ratio`): the rule is asked at those steps that have rows of all it needs,
    # and looks at what it wants where there are any.
    needs: ClassVar[tuple[str, ...]] = ()
    wants: ClassVar[tuple[str, ...]] = ()
    # Whether a run without what the rule needs is told of: not where few runs have it.
    expected: ClassVar[bool] = True
    # Whether it compares each step with the one before, and would be misled by every=10: behind steps that were not
    # captured its state is empty again, and if all lie apart that is told. Steps without an update may be left out.
    consecutive: ClassVar[bool] = False
    # Whether it compares ranks: then it is asked by check_ranks(), where a run is read (tensometer.replay), and not in
    # the processes that train, which see their own rank alone.
    across_ranks: ClassVar[bool] = False
    # Settings that are parts of a whole: from 0 to 1.
    fractions: ClassVar[tuple[str, ...]] = ()
    # Whether it is one of the default set.
    by_default: ClassVar[bool] = True
    causes: ClassVar[tuple[str, ...]] = ()
    remedies: ClassVar[tuple[str, ...]] = ()

    severity: Severity = Severity.WARNING
    warmup: int = 0
    patience: int = 1
    cooldown: int = 100
    include: str | None = None
    exclude: str | None = None
    module_types: tuple[str, ...] | None = None
    collections: tuple[str, ...] | None = None

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        for name in ("needs", "wants", "causes", "remedies"):
            _check_declared(f"{cls.__name__}.{name}", getattr(cls, name), groups=name in ("needs", "wants"))
        # Another default of a setting that there is need not repeat its type.
        annotations = inspect.get_annotations(cls)
        inherited = {one.name: one.type for one in dataclasses.fields(cls) if one.name in vars(cls)}
        cls.__annotations__ = inherited | annotations
        dataclass(frozen=True, kw_only=True)(cls)

    def __post_init__(self) -> None:
        check_settings(self)

    def check_pause(self, step: Step, seconds: float, state: State) -> Condition | None:
        """Judge that nothing has come for so many seconds after a step. Few rules do."""
        return None

    @property
    def name(self) -> str:
        """The name in findings and settings: that of the class."""
        return type(self).__name__

    def check(self, step: Step, state: State) -> Iterable[Condition]:
        """Judge a step that has rows of what the rule needs."""
        raise NotImplementedError(f"{self.name} has no check()")

    def check_ranks(self, steps: Sequence[Step], state: State) -> Iterable[Condition]:
        """Judge the same step of two or more ranks, the lowest first: those that have rows of what the rule needs.

        Numbers of tensors are the same in all of them. Conditions are of rows of the first step.
        """
        raise NotImplementedError(f"{self.name} has no check_ranks()")

    def rows(self, step: Step, group: str, phase: str = TRAIN, where: Where | None = None) -> Group:
        """The rows of a group that the rule's own include, exclude, module_types and collections let in.

        where: a function that lets keys in, and lives on: not a lambda made at each call. ValueError for a group that
        the rule has not declared.
        """
        if group not in self.needs and group not in self.wants:
            raise ValueError(f"{group!r} is not among what {self.name} needs and wants, so it may never be captured")
        found = step.group(group, phase)
        if where is not None:
            found = found.where(where)
        selection = self.selection
        return found if selection is _ALL else found.where(selection)

    @cached_property
    def selection(self) -> "Selection":
        """Which tensors the settings let in."""
        selection = Selection(self.include, self.exclude, self.module_types, self.collections)
        return _ALL if selection == _ALL else selection

    def lets_in(self, step: Step, before: bool | None = None) -> bool | None:
        """Whether the settings let in any tensor of the groups that the rule looks at. before: where there is none."""
        selection = self.selection
        if selection is _ALL:
            return True
        names = [name for name in (*self.needs, *self.wants) if name.partition("/")[0] not in _SCALARS]
        groups = [step.group(name, phase) for name in names for phase in step.phases(name)]
        return any(len(group.where(selection)) for group in groups) if any(map(len, groups)) else before

    def about(
        self, holds: bool, sentence: str, *, value: float, threshold: float, step: Step, **more: Any
    ) -> Condition:
        """A condition of the run as a whole, or of something that is no tensor: `tensor=` is then its name.

        Further keywords are those of Condition, and what the sentence names.
        """
        tensor, collection = str(more.pop("tensor", "")), str(more.pop("collection", ""))
        own = {name: more.pop(name) for name in ("kind", "severity", "patience") if name in more}
        group = Group(step.catalogue.of_no_tensor(tensor, collection), _no_column)
        return Condition(group, np.array([bool(holds)]), sentence, value, threshold, more, **own)


# Groups of numbers, which have names of their own.
_SCALARS = ("losses", "metrics", "loop")


def _no_column(statistic: str) -> Array:
    raise ValueError(f"statistic: {statistic!r} of what is no tensor")


@dataclass(frozen=True, slots=True)
class Selection:
    """Which tensors a rule is about; equal ones are one to what remembers choices by them."""

    include: str | None
    exclude: str | None
    module_types: tuple[str, ...] | None
    collections: tuple[str, ...] | None

    def __call__(self, key: Key) -> bool:
        return (
            (self.include is None or re.search(self.include, key.name) is not None)
            and (self.exclude is None or re.search(self.exclude, key.name) is None)
            and (self.module_types is None or key.facts.get("module_type") in self.module_types)
            and (self.collections is None or key.collection in self.collections)
        )

    def __str__(self) -> str:
        given = {one.name: getattr(self, one.name) for one in dataclasses.fields(self)}
        return ", ".join(f"{name}={value!r}" for name, value in given.items() if value is not None)


_ALL = Selection(None, None, None, None)


def iterated(rule: Rule, given: Iterable[Condition]) -> Iterator[Condition]:
    """What check() has returned, one by one. TypeError, naming the rule, for what cannot be iterated."""
    try:
        return iter(given)
    except TypeError:
        raise TypeError(f"{rule.name}: check() must yield Conditions, and returned {given!r:.100}") from None


def check_condition(rule: Rule, one: Condition) -> None:
    """Whether check() has yielded what can be judged. TypeError or ValueError, naming the rule, if not."""
    if not isinstance(one, Condition):
        raise TypeError(f"{rule.name}: check() must yield Conditions, and yielded {one!r:.100}")
    holds = one.holds
    if not isinstance(holds, np.ndarray) or holds.dtype.char != "?":
        raise TypeError(f"{rule.name}: holds must be an array of booleans, and is {holds!r:.100}")
    shape = one.rows.part.ids.shape
    for name, value in (("holds", holds), ("value", one.value), ("threshold", one.threshold)):
        if isinstance(value, np.ndarray) and value.shape != shape:
            raise ValueError(f"{rule.name}: {name} is of shape {value.shape}, not {shape}, as there are rows")


def check_sentence(rule: Rule, condition: Condition) -> None:
    """Whether the sentence names only what there is. ValueError, naming the rule: not only when something is found."""
    known = ("tensor", "value", "threshold", *condition.more)
    for _, field, _, _ in Formatter().parse(condition.sentence):
        name = re.split(r"[.[]", field or "")[0]
        if field is not None and name not in known:
            raise ValueError(f"{rule.name}: {{{field}}} of the sentence is none of {', '.join(known)}")


def check_settings(rule: Rule) -> None:
    """Whether every setting is of its default's type, and in its range. TypeError or ValueError, naming it."""
    try:
        object.__setattr__(rule, "severity", Severity.of(rule.severity))
    except ValueError as error:
        raise ValueError(f"{rule.name}.{error}") from None
    for name in ("module_types", "collections"):
        object.__setattr__(rule, name, _checked_names(f"{rule.name}.{name}", getattr(rule, name)))
    for collection in rule.collections or ():
        if collection not in COLLECTIONS:
            raise ValueError(f"{rule.name}.collections: {unknown(collection, COLLECTIONS)}")
    for one in dataclasses.fields(rule):
        value = getattr(rule, one.name)
        place = f"{rule.name}.{one.name}"
        if isinstance(one.default, bool) or one.name == "severity":
            if type(value) is not type(one.default):
                raise TypeError(f"{place}: {value!r} is not true or false")
        elif isinstance(one.default, int | float):
            _check_number(place, value, whole=isinstance(one.default, int), signed=one.default < 0)
            if one.name in rule.fractions and value > 1:
                raise ValueError(f"{place}: {value!r} is a part of a whole, at most 1")
    for name in ("include", "exclude"):
        _check_expression(f"{rule.name}.{name}", getattr(rule, name))
    if rule.patience < 1:
        raise ValueError(f"{rule.name}.patience: {rule.patience} is less than 1")


def _check_declared(place: str, given: object, *, groups: bool) -> None:
    if not isinstance(given, tuple) or not all(isinstance(one, str) for one in given):
        raise TypeError(f"{place}: {given!r} is not a tuple of {'names of groups' if groups else 'texts'}")
    for group in given if groups else ():
        try:
            check_group(group)
        except ValueError as error:
            raise ValueError(f"{place}: {error}") from None


def _checked_names(place: str, given: object) -> tuple[str, ...] | None:
    if given is None:
        return None
    if not isinstance(given, list | tuple) or not all(isinstance(one, str) for one in given):
        raise TypeError(f"{place}: {given!r} is not a list of names")
    return tuple(given)


def _check_number(place: str, value: object, *, whole: bool, signed: bool) -> None:
    if isinstance(value, bool) or not isinstance(value, int if whole else int | float):
        raise TypeError(f"{place}: {value!r} is not a {'whole ' if whole else ''}number")
    if not abs(value) <= sys.float_info.max or (value < 0 and not signed):  # NaN too
        raise ValueError(f"{place}: {value!r} is not a finite number{'' if signed else ' from 0'}")


def _check_expression(place: str, value: object) -> None:
    if value is None:
        return
    if not isinstance(value, str):
        raise TypeError(f"{place}: {value!r} is not a regular expression")
    try:
        re.compile(value)
    except re.error as error:
        raise ValueError(f"{place}: {value!r} is not a regular expression: {error}") from error
