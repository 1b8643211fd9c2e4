"""Rules beside a training, and what is done when they find something."""

import os
from collections.abc import Sequence

from tensometer.actions import Action, Dump, Request, Runner, StopTraining
from tensometer.capture.collector import Collector, Observer
from tensometer.capture.sink import Taken
from tensometer.capture.stop_file import StopFile
from tensometer.judge import Judge, asked_early
from tensometer.notices import warn
from tensometer.rules import Finding, Rule, Severity
from tensometer.store import Event, Place, Record

# How long the end of a training waits for actions that take their time.
_ACTION_SECONDS = 10.0


class Responder:
    """Judges what a training captures, runs actions, and knows whether the training is to stop.

    In the child of a fork it does nothing: what happens there is no part of the training. ValueError for rules or
    actions that do not go together. Nothing happens before begin().
    """

    def __init__(self, rules: Sequence[Rule], actions: Sequence[Action], *, place: Place, rank: int) -> None:
        self._judge = Judge(rules, rank=rank, found=self._found, told=self._rule_failed)
        _check_early(actions, rules)
        names = [rule.name for rule in rules]
        self._place = place
        self._actions = Runner(actions, run=place.url, rules=names, told=self._tell)
        self._collector: Collector
        self._stop_file: StopFile
        self._stop: StopTraining | None = None
        self._warned = False
        self._process = os.getpid()

    @property
    def before_update(self) -> bool:
        """Whether gradients are judged before an optimizer uses them."""
        return self._actions.before_update

    @property
    def observer(self) -> Observer | None:
        """What is to be called with all that is captured; None where there are no rules."""
        return self._observe if self._judge.rules else None

    def begin(self, collector: Collector) -> None:
        """Tell a collector of findings and failures from now on."""
        self._collector = collector
        self._stop_file = StopFile(self._place, collector.step)
        self._actions.begin()

    def end_step(self) -> StopTraining | None:
        """A step is over; whether somebody asks for the end of the training."""
        self._actions.end_step()
        reason = self._stop_file.asked()
        stop, self._stop = self._stop or (StopTraining(reason) if reason is not None else None), None
        if stop is not None:
            self._collector.event("stopped", {"reason": stop.reason})
        return stop

    def veto(self, gradients: Sequence[Taken]) -> Request | None:
        """What is asked for of gradients that an optimizer is about to use: a stop, or to leave the update out.

        Either way the run says so, and then the step is judged as one whose update was left out.
        """
        if os.getpid() != self._process:
            return None
        findings: list[Finding] = []
        step, phase = self._collector.step, self._collector.phase_of()
        self._collector.guard(lambda: findings.extend(self._judge.foresee(step, phase, gradients)))
        request = self._actions.foresee(findings) if findings else None
        if request is not None:
            self._collector.event("update_skipped", {"reason": request.reason})
            self._heed(request)
        return request

    def close(self, seconds: float) -> None:
        """The training is over: tell what is left, and wait for actions, for so many seconds at most."""
        if self._judge.rules and os.getpid() == self._process:
            self._collector.guard(self._judge.close)
        self._stop_file.close()
        self._actions.close(min(_ACTION_SECONDS, seconds))

    def _observe(self, records: Sequence[Record], events: Sequence[Event]) -> None:
        if os.getpid() == self._process:
            self._judge.observe(records, events)

    def _found(self, finding: Finding) -> None:
        self._collector.event("finding", finding.to_dict())
        if self._collector.config.recorder and finding.severity >= Severity.WARNING and not finding.repeated:
            self._collector.dump(str(finding))
        for request in self._actions.run(finding):
            self._heed(request)

    def _heed(self, request: Request) -> None:
        if isinstance(request, StopTraining):
            self._stop = self._stop or request
        elif isinstance(request, Dump) and self._collector.config.recorder:
            self._collector.dump(request.reason)

    def _rule_failed(self, rule: Rule, error: Exception) -> None:
        if self._collector.strict:
            raise error
        self._tell(f"the rule {rule.name} is asked no more: it raised {type(error).__name__}: {error}")

    def _tell(self, sentence: str) -> None:
        self._collector.event("problem", {"error": sentence})
        if not self._warned:
            self._warned = True
            warn(f"{sentence}; training goes on")


def _check_early(actions: Sequence[Action], rules: Sequence[Rule]) -> None:
    early = [rule.name for rule in rules if asked_early(rule)]
    for one in actions:
        meant = early if one.limits.rules is None else [name for name in one.limits.rules if name in early]
        if one.before_update and not meant:
            raise ValueError(
                f"on_finding: {one.name} before the update: none of its rules can be asked then; those that need"
                f" nothing but gradients can, here {', '.join(early) or 'none'}"
            )
