"""Runs rules over the steps of one rank, or of several: patience, repetition, and the findings."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tensometer.rules.base import Condition, Rule
from tensometer.rules.finding import Finding, Severity
from tensometer.rules.progress import Progress
from tensometer.rules.runs import Load, Runs, no_runs
from tensometer.rules.state import State
from tensometer.rules.step import Catalogue, Step

# Of so many steps none has had what a rule needs: then it is told. A run that ends before tells it at its end.
NEEDS_PATIENCE = 10


@dataclass
class _Memory:
    """What belongs to one rule."""

    state: State = field(default_factory=State)
    observed: int = 0
    tracks: dict[str, "_Track"] = field(default_factory=dict)
    broken: bool = False

    def copy(self) -> "_Memory":
        """Another that remembers the same."""
        tracks = {kind: _Track(State(track.state.values()), track.active) for kind, track in self.tracks.items()}
        return _Memory(State(self.state.values()), self.observed, tracks, self.broken)


@dataclass
class _Track:
    """How long each tensor has been as a condition says, and when it was told. active: whether any is."""

    state: State = field(default_factory=State)
    active: bool = False


class Engine:
    """Judges steps, which come in the order of their numbers, by some rules.

    told: called with a rule and an exception that it has raised, which is a mistake in the rule: it is asked no more,
    and the others go on. By default the exception is raised. load: reads other runs, for rules that compare with them.
    """

    def __init__(
        self,
        rules: Sequence[Rule],
        *,
        load: Load = no_runs,
        told: Callable[[Rule, Exception], None] | None = None,
    ) -> None:
        names = [rule.name for rule in rules]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"rules: {name} is there {names.count(name)} times")
        self.rules = tuple(rules)
        self.catalogue = Catalogue()
        self.progress = Progress()
        self._runs = Runs(load, self.catalogue)
        self._told = told
        self._memories = {rule.name: _Memory() for rule in rules}
        self._absent = {group for rule in rules for group in rule.needs}
        self._absence_told = False
        self._last: Step | None = None

    def judge(self, step: Step) -> list[Finding]:
        """The findings of a step, in the order of the rules. The step must have this engine's catalogue.

        Rules across ranks are not asked.
        """
        self._follow(step)
        found = []
        for rule in self.rules:
            if not rule.across_ranks and _has_needs(rule, step):
                found += self._asked(rule, self._memories[rule.name], step, rule.check, step)
        if self._absent and self.progress.observed >= NEEDS_PATIENCE:
            found += self.finish(step.number, step.rank)
        return found

    def foresee(self, step: Step, group: str) -> list[Finding]:
        """What would be found of a step of which there is no more yet than a group's rows; nothing is remembered.

        Only the rules are asked that look at that group and need no other. What goes on is found at every step: how
        often to tell of it is a matter of what is told.
        """
        step.progress, step.runs = self.progress.about_to_update(), self._runs.step
        found = []
        for rule in self.rules:
            alone = group in (*rule.needs, *rule.wants) and not {*rule.needs} - {group}
            if alone and not rule.across_ranks and _has_needs(rule, step):
                memory = self._memories[rule.name].copy()
                found += self._asked(rule, memory, step, rule.check, step, cooldown=0)
        return found

    def waited(self, seconds: float) -> list[Finding]:
        """The findings if nothing has come for so many seconds since the last step: for who follows a run."""
        if self._last is None:
            return []
        found: list[Finding | None] = []
        for rule in self.rules:
            memory = self._memories[rule.name]
            if memory.broken:
                continue
            try:
                condition = rule.check_pause(self._last, seconds, memory.state)
                if condition is not None and memory.observed > rule.warmup:
                    found.append(self._followed(rule, condition, memory, self._last, rule.cooldown))
            except Exception as error:
                self._failed(rule, error)
        return [one for one in found if one is not None]

    def judge_ranks(self, steps: Sequence[Step]) -> list[Finding]:
        """The findings of rules across ranks, of the same step of several, the lowest first; see judge()."""
        self._follow(steps[0])
        found = []
        for rule in self.rules:
            having = [step for step in steps if _has_needs(rule, step)]
            if rule.across_ranks and len(having) > 1:
                found += self._asked(rule, self._memories[rule.name], having[0], rule.check_ranks, having)
        return found

    def _follow(self, step: Step) -> None:
        self.progress.follow(step.number, step.scalars("loop"), step.scalars("losses"))
        step.progress, step.runs = self.progress, self._runs.step
        self._last = step
        self._absent -= {group for group in self._absent if any(step.phases(group))}

    def finish(self, step: int, rank: int) -> list[Finding]:
        """Of a run that has ended at a step: the rules that had nothing to judge, if that was not told before."""
        if self._absence_told or not self.progress.observed:
            return []
        self._absence_told = True
        found = []
        for rule in self.rules:
            lacking = [group for group in rule.needs if group in self._absent]
            if lacking and rule.expected:
                found.append(_not_captured(rule, lacking, step, rank))
        return found

    def _asked(
        self,
        rule: Rule,
        memory: _Memory,
        step: Step,
        check: Callable[[Any, State], Iterable[Condition]],
        given: object,
        cooldown: int | None = None,
    ) -> list[Finding]:
        """memory: the rule's own, or a copy of it. cooldown: other than the rule's own."""
        if self._memories[rule.name].broken:
            return []
        try:
            conditions = check(given, memory.state)
            return self._judged(rule, memory, step, conditions, rule.cooldown if cooldown is None else cooldown)
        except Exception as error:
            self._failed(rule, error)
            return []

    def _failed(self, rule: Rule, error: Exception) -> None:
        if self._told is None:
            raise error
        self._memories[rule.name].broken = True
        self._told(rule, error)

    def _judged(
        self, rule: Rule, memory: _Memory, step: Step, conditions: Iterable[Condition], cooldown: int
    ) -> list[Finding]:
        memory.observed += 1
        found = []
        for condition in conditions:
            if memory.observed > rule.warmup:
                one = self._followed(rule, condition, memory, step, cooldown)
                if one is not None:
                    found.append(one)
        return found

    def _followed(self, rule: Rule, condition: Condition, memory: _Memory, step: Step, cooldown: int) -> Finding | None:
        track = memory.tracks.setdefault(f"{condition.kind}:{condition.rows.part.phase}", _Track())
        holds = condition.holds
        anything = bool(holds.any())
        if not anything and not track.active:
            return None
        track.active = anything
        ids, count = condition.rows.ids, len(self.catalogue)
        streaks = track.state.of_tensors("streaks", count, 0)
        since = track.state.of_tensors("since", count, -1)
        told = track.state.of_tensors("told", count, -1)
        streak = np.where(holds, streaks[ids] + 1, 0)
        streaks[ids] = streak
        since[ids[streak == 1]] = step.number
        ripe = streak >= (rule.patience if condition.patience is None else condition.patience)
        first = ripe & (told[ids] < 0)
        again = ripe & (told[ids] >= 0) & (step.number - told[ids] >= cooldown)
        chosen = np.flatnonzero(first if first.any() else again)
        if not len(chosen):
            return None
        told[ids[chosen]] = step.number
        window = (int(since[ids[chosen[0]]]), step.number)
        return _finding(rule, condition, chosen.tolist(), step, window, repeated=not first.any())

    def values(self) -> dict[str, Any]:
        """Everything that is remembered, as plain values and arrays, from which restore() goes on."""
        return {
            "names": self.catalogue.names,
            "progress": self.progress.values(),
            "absent": sorted(self._absent),
            "absence_told": self._absence_told,
            "rules": {
                name: {
                    "state": memory.state.values(),
                    "observed": memory.observed,
                    "broken": memory.broken,
                    "tracks": {
                        kind: {"state": track.state.values(), "active": track.active}
                        for kind, track in memory.tracks.items()
                    },
                }
                for name, memory in self._memories.items()
            },
        }

    def restore(self, values: Mapping[str, Any]) -> None:
        """Go on from what values() returned, of an engine with the same rules. KeyError for that of others."""
        for name in values["names"]:
            self.catalogue.number(name)
        self.progress = Progress.restored(values["progress"])
        self._absent, self._absence_told = set(values["absent"]), values["absence_told"]
        for name in self._memories:
            saved = values["rules"][name]
            tracks = {kind: _Track(State(one["state"]), one["active"]) for kind, one in saved["tracks"].items()}
            self._memories[name] = _Memory(State(saved["state"]), saved["observed"], tracks, saved["broken"])


def _has_needs(rule: Rule, step: Step) -> bool:
    return all(len(step.group(group)) for group in rule.needs)


def _finding(
    rule: Rule, condition: Condition, chosen: Sequence[int], step: Step, window: tuple[int, int], *, repeated: bool
) -> Finding:
    lead, *others = chosen
    rows = condition.rows
    value, threshold = _at(condition.value, lead), _at(condition.threshold, lead)
    more = {name: _at(one, lead) for name, one in condition.more.items()}
    sentence = condition.sentence.format(tensor=rows.names[lead], value=value, threshold=threshold, **more)
    names = dict.fromkeys(rows.names[at] for at in others)
    names.pop(rows.names[lead], None)
    if names:
        sentence += f"; so {'is' if len(names) == 1 else 'are'} {len(names)} more"
    return Finding(
        rule=rule.name,
        severity=condition.severity or rule.severity,
        step=step.number,
        rank=step.rank,
        tensor=rows.names[lead],
        others=tuple(names),
        collection=rows.keys[lead].collection,
        phase=rows.part.phase,
        kind=condition.kind,
        value=float(value),
        threshold=float(threshold),
        window=window,
        sentence=sentence,
        causes=rule.causes,
        remedies=rule.remedies,
        repeated=repeated,
    )


def _at(value: Any, row: int) -> Any:
    """What belongs to a row: of arrays and lists the element, of all else the whole."""
    if isinstance(value, np.ndarray):
        return value[row].item()
    return value[row] if isinstance(value, list | tuple) else value


def _not_captured(rule: Rule, lacking: Sequence[str], step: int, rank: int) -> Finding:
    names = " and ".join(lacking)
    return Finding(
        rule=rule.name,
        severity=Severity.INFO,
        step=step,
        rank=rank,
        tensor="",
        others=(),
        collection=lacking[0].partition("/")[0],
        phase="",
        kind="not_captured",
        value=0.0,
        threshold=0.0,
        window=(0, step),
        sentence=f"{rule.name} judges nothing: it needs {names}, and the run has none",
        causes=("the collection is switched off, or nothing was attached that it comes from",),
        remedies=(f"capture {names}, or leave {rule.name} out",),
    )
