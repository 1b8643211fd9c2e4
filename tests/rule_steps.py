"""Steps for tests of rules: made of arrays by the engine itself, without a training."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from tensometer import summarize_many
from tensometer._core import SummaryTable
from tensometer.rules import Engine, Finding, Rule, Step
from tensometer.rules.feed import captured_step
from tensometer.store import Event, TensorKey


class Bench:
    """Judges steps by one rule (or some), as they are given: `bench.step(gradients={"a.weight": array})`.

    What each collection holds is a mapping from names to arrays or numbers. facts: of names, for all collections. Two
    slashes in a keyword are one: `bench.step(**{"updates": {"a.weight/ratio": 0.1}})`.
    """

    def __init__(self, *rules: Rule, facts: Mapping[str, Mapping[str, Any]] | None = None, rank: int = 0) -> None:
        self.engine = Engine(rules)
        self.facts = dict(facts or {})
        self.rank = rank
        self._numbers = itertools.count()
        self._lists: dict[tuple[Any, ...], list[TensorKey]] = {}

    def made(
        self, *, phase: str = "train", events: Sequence[Event] = (), at: int | None = None, **collections: Any
    ) -> Step:
        """A step, not judged yet."""
        number = next(self._numbers) if at is None else at
        parts = [(phase, *self._part(name, named)) for name, named in collections.items()]
        return captured_step(number, float(number), self.rank, parts, events, self.engine.catalogue)

    def step(self, **given: Any) -> list[Finding]:
        """The findings of the next step."""
        return self.engine.judge(self.made(**given))

    def steps(self, count: int, **given: Any) -> list[Finding]:
        """The findings of so many steps that are alike."""
        return [finding for _ in range(count) for finding in self.step(**given)]

    def _part(self, collection: str, named: Mapping[str, Any]) -> tuple[list[TensorKey], SummaryTable]:
        arrays = {name: np.asarray(value) for name, value in named.items()}
        table = summarize_many(list(arrays.values()))
        keys = [
            TensorKey(name, collection, row.dtype, row.shape, self.facts.get(name.partition("/")[0], {}))
            for name, row in zip(arrays, table, strict=True)
        ]
        mark = (collection, *((key.name, key.dtype, key.shape) for key in keys))
        return self._lists.setdefault(mark, keys), table


def normal(*shape: int, scale: float = 1.0, seed: int = 0) -> "np.ndarray[Any, Any]":
    """Normal numbers, float32."""
    return (np.random.default_rng(seed).standard_normal(shape) * scale).astype(np.float32)


def names(findings: Sequence[Finding]) -> Iterator[str]:
    """The rules of findings."""
    return (finding.rule for finding in findings)
