"""What rules say of the recorded runs, against what is in them."""

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from tensometer.replay import Replay
from tensometer.rules import Finding, Rule, Severity
from tensometer.rules.different_across_runs import DifferentAcrossRuns

from benchmarks.detection.record import Recorded

LEAST = Severity.WARNING


@dataclass
class Verdict:
    """The alarms of one run: findings of at least LEAST, in their order. failures: of rules that raised."""

    run: Recorded
    alarms: list[Finding] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    @property
    def early(self) -> list[Finding]:
        """Alarms before anything was wrong; all of them where nothing is."""
        return [one for one in self.alarms if not self.run.broken or one.step < self.run.onset]

    @property
    def late(self) -> list[Finding]:
        """Alarms of a run with a fault, since that began."""
        return [one for one in self.alarms if self.run.broken and one.step >= self.run.onset]

    @property
    def right(self) -> list[Finding]:
        """Those that name the fault."""
        return [one for one in self.late if one.rule in self.run.case.accepted]

    @property
    def delay(self) -> int | None:
        """Steps from onset to the first alarm that names the fault."""
        return self.right[0].step - self.run.onset if self.right else None


def judged(run: Recorded, rules: Sequence[Rule]) -> Verdict:
    """What rules say of a run, and if there is another to compare it with, whether it differs."""
    verdict = Verdict(run)

    def failed(rule: Rule, error: Exception) -> None:
        verdict.failures.append(f"{rule.name} fails on {run.label}: {type(error).__name__}: {error}")

    if run.reference.exists():
        rules = [*rules, DifferentAcrossRuns(reference=str(run.reference))]
    verdict.alarms = [one for one in Replay(run.place, rules, told=failed).follow() if one.severity >= LEAST]
    # Of several ranks, one rank after another.
    verdict.alarms.sort(key=lambda one: one.step)
    return verdict


@dataclass
class Score:
    """The verdicts on all runs."""

    verdicts: Sequence[Verdict]

    def __post_init__(self) -> None:
        self.faults = [one for one in self.verdicts if one.run.broken]
        self.twins = [one for one in self.verdicts if not one.run.broken and not one.run.case.healthy]
        self.healthy = [one for one in self.verdicts if one.run.case.healthy]

    def totals(self) -> list[str]:
        """Lines with the targets beside what was reached."""
        delays = [one.delay for one in self.faults if one.delay is not None]
        found = sum(bool(one.late) for one in self.faults)
        median = f"{statistics.median(delays):g}" if delays else "-"
        return [
            f"faults named rightly   {_share(bool(one.right) for one in self.faults)}   at least 90 %",
            f"faults with any alarm  {_share(bool(one.late) for one in self.faults)}",
            f"of those, named        {_of(sum(bool(one.right) for one in self.faults), found)}",
            f"alarms before onset    {_share(bool(one.early) for one in self.faults)}",
            f"twins flagged          {_share(bool(one.alarms) for one in self.twins)}   at most 2 %",
            f"healthy runs flagged   {_share(bool(one.alarms) for one in self.healthy)}   at most 4 %",
            f"median steps to name   {median:>9}          at most 3",
        ]

    def by_rule(self) -> list[str]:
        """A table: each rule that is planted or that has fired.

        found: of the faults that it may name, those that it names. alone: those that no other rule names. wrong: faults
        on which it fires though they are something else.
        """
        names = sorted({name for one in self.faults for name in one.run.case.accepted} | _fired(self.verdicts))
        width = max([4, *map(len, names)])
        lines = [f"{'rule':{width}}  found/planted  alone  steps  wrong  early  twins  healthy"]
        for name in names:
            planted = [one for one in self.faults if name in one.run.case.accepted]
            found = [(one, first) for one in planted if (first := _first(one.right, name)) is not None]
            alone = sum(_fired([one], "right") == {name} for one in planted)
            steps = statistics.median(first - one.run.onset for one, first in found) if found else None
            wrong = sum(_has(one.late, name) for one in self.faults if name not in one.run.case.accepted)
            counts = [sum(_has(one.early, name) for one in part) for part in (self.faults, self.twins, self.healthy)]
            median = "-" if steps is None else f"{steps:g}"
            lines.append(
                f"{name:{width}}  {len(found):>5}/{len(planted):<7}  {alone:>5}  {median:>5}  {wrong:>5}"
                f"  {counts[0]:>5}  {counts[1]:>5}  {counts[2]:>7}"
            )
        return lines

    def details(self) -> list[str]:
        """Every fault that is not named, and every alarm where nothing is wrong, with its sentence."""
        lines = []
        for one in self.faults:
            if not one.right:
                wanted = " or ".join(sorted(one.run.case.accepted))
                lines.append(f"MISSED {one.run.label}, from step {one.run.onset}: wanted {wanted}")
                lines += _told("instead", one.late)
        for one in self.verdicts:
            if one.early:
                lines.append(f"FALSE ALARM {one.run.label}")
                lines += _told("said", one.early)
        return lines


def _told(word: str, findings: Iterable[Finding]) -> list[str]:
    return [f"    {word}: {finding}" for finding in findings if not finding.repeated]


def _fired(verdicts: Iterable[Verdict], which: str = "alarms") -> set[str]:
    return {finding.rule for one in verdicts for finding in getattr(one, which)}


def _has(findings: Iterable[Finding], rule: str) -> bool:
    return any(finding.rule == rule for finding in findings)


def _first(findings: Iterable[Finding], rule: str) -> int | None:
    return next((finding.step for finding in findings if finding.rule == rule), None)


def _share(flags: Iterable[bool]) -> str:
    found = list(flags)
    return _of(sum(found), len(found))


def _of(part: int, whole: int) -> str:
    return f"{part:>4}/{whole:<4} {100 * part / whole if whole else 0:5.1f} %"
