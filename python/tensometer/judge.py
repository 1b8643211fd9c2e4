"""Rules beside a training: what a step has captured is judged when it is over."""

import dataclasses
import time
from collections.abc import Callable, Container, Sequence

from tensometer._core import SummaryTable
from tensometer.capture.config import CollectionConfig, MonitorConfig
from tensometer.names import UNIT_FACTS
from tensometer.reference import reference_steps
from tensometer.rules import Engine, Finding, Rule
from tensometer.rules.engine import needs_only
from tensometer.rules.feed import captured_step
from tensometer.rules.group import Key
from tensometer.store import Event, Record

# Most of what goes wrong does so in the beginning, and is found soonest where every step is judged.
DENSE = 500
# What there is of a step when an optimizer is about to make its update.
_EARLY = "gradients"


class Judge:
    """Hands steps that are captured to rules, and their findings to whom it may concern.

    told: called with a rule that has raised an exception, and with that; the rule is asked no more.
    """

    def __init__(
        self,
        rules: Sequence[Rule],
        *,
        rank: int,
        found: Callable[[Finding], None],
        told: Callable[[Rule, Exception], None],
    ) -> None:
        self.rules = tuple(rules)
        self._engine = Engine(rules, load=reference_steps, told=told)
        self._rank, self._found = rank, found
        self._last = -1

    def observe(self, records: Sequence[Record], events: Sequence[Event]) -> None:
        """Judge a step: all records are of one."""
        self._last = records[0].step
        step = captured_step(
            records[0].step,
            records[0].time,
            self._rank,
            [(record.phase, record.keys, record.table) for record in records],
            events,
            self._engine.catalogue,
        )
        for finding in self._engine.judge(step):
            self._found(finding)

    def foresee(
        self, number: int, phase: str, gradients: Sequence[tuple[Sequence[Key], SummaryTable]]
    ) -> list[Finding]:
        """What rules that need nothing but gradients would find of some that are about to be used."""
        parts = [(phase, keys, table) for keys, table in gradients]
        step = captured_step(number, time.time(), self._rank, parts, [], self._engine.catalogue)
        return self._engine.foresee(step, _EARLY)

    def close(self) -> None:
        """The training is over: tell of the rules that had nothing to judge."""
        for finding in self._engine.finish(self._last, self._rank):
            self._found(finding)


def asked_early(rule: Rule) -> bool:
    """Whether a rule can judge gradients that are about to be used."""
    return needs_only(rule, _EARLY)


def widened(
    config: MonitorConfig, rules: Sequence[Rule], given: Container[str] = ("every",), *, before_update: bool = False
) -> MonitorConfig:
    """The settings, and beyond them what the rules read.

    given: settings that somebody has chosen: if neither `every` nor `dense` is among them, the first steps are all
    captured. before_update: gradients are judged at every step.
    """
    collections = dict(config.collections)
    for group in sorted({group for rule in rules for group in (*rule.needs, *rule.wants)}):
        name, _, suffix = group.partition("/")
        chosen = collections.get(name) or CollectionConfig()
        if suffix == "units":
            chosen = dataclasses.replace(chosen, units=True)
        elif suffix == "classes":
            chosen = dataclasses.replace(chosen, class_counts=True)
        elif suffix in UNIT_FACTS:
            chosen = dataclasses.replace(chosen, unit_counts=True)
        collections[name] = chosen
    if before_update:
        chosen = collections.get("gradients") or CollectionConfig()
        collections["gradients"] = dataclasses.replace(chosen, every=1, steps=None, seconds=None)
    dense = DENSE if rules and "every" not in given and config.dense is None else config.dense
    return dataclasses.replace(config, collections=collections, dense=dense)
