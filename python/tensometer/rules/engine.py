"""Runs rules over the steps of one rank, or of several: patience, repetition, and the findings."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from tensometer.rules import absence
from tensometer.rules.base import Condition, Rule, check_condition, check_sentence, iterated
from tensometer.rules.catalogue import Catalogue
from tensometer.rules.finding import Finding
from tensometer.rules.progress import Progress
from tensometer.rules.runs import Load, Runs, no_runs
from tensometer.rules.state import State
from tensometer.rules.step import Step


@dataclass
class _Memory:
    """What belongs to one rule.

    succession: of a rule that compares consecutive steps. lets_in: whether its settings have let in any tensor of those
    that it looks at; None if there were none yet.
    """

    state: State = field(default_factory=State)
    observed: int = 0
    tracks: dict[str, "_Track"] = field(default_factory=dict)
    broken: bool = False
    succession: absence.Succession = field(default_factory=absence.Succession)
    lets_in: bool | None = None

    def copy(self) -> "_Memory":
        """Another that remembers the same."""
        tracks = {kind: _Track(State(track.state.values()), track.active) for kind, track in self.tracks.items()}
        return replace(self, state=State(self.state.values()), tracks=tracks, succession=replace(self.succession))

    def follow(self, step: Step, *, asked: bool) -> None:
        """Of a rule that compares consecutive steps: behind others it begins anew, but for what was told."""
        self.succession.follow(step, asked=asked)
        if self.succession.distance > 1:
            self.state = State()
            for track in self.tracks.values():
                track.state.of_tensors("streaks", 0, 0)[:] = 0


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
        self._collections: set[str] = set()
        self._not_judged: set[str] = set()
        self._last: Step | None = None

    def judge(self, step: Step) -> list[Finding]:
        """The findings of a step, in the order of the rules. The step must have this engine's catalogue.

        Rules across ranks are not asked.
        """
        self._follow(step)
        found, late = [], self.progress.observed == absence.NEEDS_PATIENCE
        for rule, memory in zip(self.rules, self._memories.values(), strict=True):
            if rule.across_ranks:
                continue
            asked = step.has(rule.needs)
            if rule.consecutive:
                memory.follow(step, asked=asked)
                late |= memory.succession.apart == absence.NEEDS_PATIENCE - 1
            if not memory.lets_in:
                memory.lets_in = rule.lets_in(step, memory.lets_in)
            if asked:
                found += self._asked(rule, memory, step, rule.check, step)
        if late:
            found += self._told_of_absence(step.number, step.rank)
        return found

    def foresee(self, step: Step, group: str) -> list[Finding]:
        """What would be found of a step of which there is no more yet than a group's rows; nothing is remembered.

        Only the rules are asked that look at that group and need no other. What goes on is found at every step: how
        often to tell of it is a matter of what is told.
        """
        step.progress, step.runs = self.progress.about_to_update(), self._runs.step
        found = []
        for rule in self.rules:
            if needs_only(rule, group) and step.has(rule.needs):
                memory = self._memories[rule.name].copy()
                if rule.consecutive:
                    memory.follow(step, asked=True)
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
            having = [step for step in steps if step.has(rule.needs)]
            if rule.across_ranks and len(having) > 1:
                found += self._asked(rule, self._memories[rule.name], having[0], rule.check_ranks, having)
        return found

    def _follow(self, step: Step) -> None:
        self.progress.follow(step.number, step.scalars("loop"), step.scalars("losses"))
        step.progress, step.runs = self.progress, self._runs.step
        self._last = step
        self._absent.difference_update(step.groups)
        self._collections |= step.collections

    def finish(self, step: int, rank: int) -> list[Finding]:
        """Of a run that has ended at a step: the rules that had nothing to judge, as far as that was not told before.

        The first rank speaks for all.
        """
        return self._told_of_absence(step, rank, ended=True)

    def _told_of_absence(self, step: int, rank: int, *, ended: bool = False) -> list[Finding]:
        reasons: dict[str, str] = {}
        for rule in self.rules:
            reason = self._why_not_judged(rule, ended=ended) if rule.name not in self._not_judged else ""
            if reason:
                reasons[rule.name] = reason
        if rank or not reasons or not self.progress.observed:
            return []
        self._not_judged |= set(reasons)
        return [absence.told(reasons, step, rank)]

    def _why_not_judged(self, rule: Rule, *, ended: bool) -> str:
        """Nothing, if it is judged, or need not be."""
        memory = self._memories[rule.name]
        lacking = [group for group in rule.needs if group in self._absent]
        # What is apart now and then, as behind a checkpoint, is not told.
        if memory.succession.apart >= (1 if ended else absence.NEEDS_PATIENCE - 1):
            return absence.apart(memory.succession)
        if memory.lets_in is False:
            return absence.none_selected(rule.selection)
        if not rule.expected or absence.is_of_a_booster(rule.needs, self._collections, self.catalogue.names):
            return ""
        if lacking:
            return absence.not_captured(lacking)
        # What comes at different cadences may still come together as long as the run goes on.
        never = ended and not memory.observed and not rule.across_ranks and not memory.broken
        return absence.never_together(rule.needs) if never else ""

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
        if memory.broken:
            return []
        try:
            conditions = check(given, memory.state)
            return self._judged(rule, memory, step, conditions, rule.cooldown if cooldown is None else cooldown)
        except (Exception, SystemExit) as error:  # no rule ends a training
            self._failed(rule, error if isinstance(error, Exception) else RuntimeError(repr(error)))
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
        found, judged = [], memory.observed > rule.warmup
        for condition in iterated(rule, conditions):
            if not judged or not isinstance(condition, Condition):
                check_condition(rule, condition)
            elif (one := self._followed(rule, condition, memory, step, cooldown)) is not None:
                found.append(one)
        return found

    def _followed(self, rule: Rule, condition: Condition, memory: _Memory, step: Step, cooldown: int) -> Finding | None:
        kind = f"{condition.kind}:{condition.rows.part.phase}"
        track = memory.tracks.get(kind)
        if track is None:
            check_condition(rule, condition)
            check_sentence(rule, condition)
            track = memory.tracks[kind] = _Track()
        holds = condition.holds
        anything = bool(np.count_nonzero(holds))
        if not anything and not track.active:
            return None
        check_condition(rule, condition)
        track.active = anything
        ids, count = condition.rows.ids, len(self.catalogue)
        streaks = track.state.of_tensors("streaks", count, 0)
        since = track.state.of_tensors("since", count, -1)
        told = track.state.of_tensors("told", count, -1)
        worst = track.state.of_tensors("worst", count, -1)
        severity = rule.severity if condition.severity is None else condition.severity
        streak = np.where(holds, streaks[ids] + 1, 0)
        streaks[ids] = streak
        since[ids[streak == 1]] = step.number
        ripe = streak >= (rule.patience if condition.patience is None else condition.patience)
        # What has become worse is as new as what was not there before.
        first = ripe & (worst[ids] < int(severity))
        again = ripe & ~first & (step.number - told[ids] >= cooldown)
        chosen = np.flatnonzero(first if first.any() else again)
        if not len(chosen):
            return None
        told[ids[chosen]] = step.number
        worst[ids[chosen]] = np.maximum(worst[ids[chosen]], int(severity))
        window = (int(since[ids[chosen[0]]]), step.number)
        return _finding(rule, condition, chosen.tolist(), step, window, repeated=not first.any())

    def values(self) -> dict[str, Any]:
        """Everything that is remembered, as plain values and arrays, from which restore() goes on."""
        return {
            "names": self.catalogue.names,
            "progress": self.progress.values(),
            "absent": sorted(self._absent),
            "collections": sorted(self._collections),
            "not_judged": sorted(self._not_judged),
            "rules": {
                name: {
                    "state": memory.state.values(),
                    "observed": memory.observed,
                    "broken": memory.broken,
                    "succession": asdict(memory.succession),
                    "lets_in": memory.lets_in,
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
        self._absent, self._collections = set(values["absent"]), set(values["collections"])
        self._not_judged = set(values["not_judged"])
        for name in self._memories:
            saved = values["rules"][name]
            tracks = {kind: _Track(State(one["state"]), one["active"]) for kind, one in saved["tracks"].items()}
            succession = absence.Succession(**saved["succession"])
            about = (saved["observed"], tracks, saved["broken"], succession, saved["lets_in"])
            self._memories[name] = _Memory(State(saved["state"]), *about)


def needs_only(rule: Rule, group: str) -> bool:
    """Whether a rule looks at a group of rows and can be asked where there is nothing else."""
    alone = group in (*rule.needs, *rule.wants) and not {*rule.needs} - {group}
    return alone and not rule.across_ranks


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
