"""Runs actions for findings so that nothing of it harms whoever found something."""

import os
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence

from tensometer.actions.base import Action, PermanentError
from tensometer.actions.requests import Request, SkipUpdate
from tensometer.rules import Finding

# So many findings wait for an action that takes its time; further ones are failures.
_WAITING = 1000
# The longest pause, in seconds, before another attempt when the training is over.
_LAST_PAUSE = 2.0
# So many different failures are told.
_MOST_TOLD = 100


class Runner:
    """Actions of one run.

    run: its URL. rules: names of those that are asked. told: called with a sentence, in the thread that calls tell(),
    for each action and kind of failure once. ValueError for an action that is for a rule that is not asked. Nothing is
    done before begin().
    """

    def __init__(self, actions: Sequence[Action], *, run: str, rules: Sequence[str], told: Callable[[str], None]):
        for action in actions:
            action.check(rules)
        self.actions, self._run, self._told = tuple(actions), run, told
        self._failures: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._seen: set[str] = set()
        self._foreseen: set[tuple[str, ...]] = set()
        self._workers: dict[int, _Worker] = {}

    def begin(self) -> None:
        """Start the threads of actions that take their time: an interpreter that ends begins none."""
        self._workers = {id(one): _Worker(one, self._run, self._failed) for one in self.actions if one.background}

    @property
    def before_update(self) -> bool:
        """Whether an action is to be asked before gradients are used."""
        return any(one.before_update for one in self.actions)

    def foresee(self, findings: Sequence[Finding]) -> Request | None:
        """Of gradients that are about to be used: what is asked for, to stop rather than to leave the update out."""
        early = [one for one in self.actions if one.before_update]
        asked = [request for finding in findings for one in early if (request := self._run_one(one, finding))]
        self._foreseen |= {_mark(finding) for finding in findings}
        asked.sort(key=lambda request: isinstance(request, SkipUpdate))
        self.tell()
        return asked[0] if asked else None

    def run(self, finding: Finding) -> list[Request]:
        """Do with a finding what there is to do; what is asked for. An action that was asked early is not once more."""
        early = _mark(finding) in self._foreseen
        asked = [self._run_one(one, finding) for one in self.actions if not (early and one.before_update)]
        self.tell()
        # For leaving an update out it is too late.
        return [request for request in asked if request is not None and not isinstance(request, SkipUpdate)]

    def end_step(self) -> None:
        """What was foreseen is over."""
        self._foreseen.clear()
        self.tell()

    def _run_one(self, action: Action, finding: Finding) -> Request | None:
        try:
            if not action.takes(finding):
                return None
            if action.background:
                self._workers[id(action)].hand(finding)
            else:
                action.do(finding, self._run)
        except Request as request:
            if isinstance(request.__cause__, Exception):
                self._failed(action, request.__cause__)
            return request
        except Exception as error:  # whatever somebody's function raises
            self._failed(action, error)
        return None

    def _failed(self, action: Action, error: Exception) -> None:
        action.failed()
        kind = "" if isinstance(error, PermanentError) else f"{type(error).__name__}: "
        self._failures.put(f"the action {action.name} failed: {kind}{error}")

    def tell(self) -> None:
        """Tell of what has failed since, also in threads."""
        while not self._failures.empty():
            sentence = self._failures.get()
            if sentence not in self._seen and len(self._seen) < _MOST_TOLD:
                self._seen.add(sentence)
                self._told(sentence)

    def close(self, timeout: float) -> None:
        """Wait until everything is done, for so many seconds in all; pauses before further attempts are short then."""
        end = time.monotonic() + timeout
        for worker in self._workers.values():
            worker.finish()
        for worker in self._workers.values():
            worker.join(max(0.0, end - time.monotonic()))
        self.tell()


def _mark(finding: Finding) -> tuple[str, ...]:
    return (finding.rule, finding.kind, finding.phase)


class _Worker:
    """The thread of one action."""

    def __init__(self, action: Action, run: str, failed: Callable[[Action, Exception], None]) -> None:
        self._action, self._run, self._failed = action, run, failed
        self._waiting: deque[Finding] = deque()
        self._closing = False
        self._changed = threading.Condition()
        self._process = os.getpid()
        self._thread = threading.Thread(target=self._work, name="tensometer-action", daemon=True)
        self._thread.start()

    def hand(self, finding: Finding) -> None:
        """Do it soon. In the child of a fork, which has no such thread, nothing."""
        if os.getpid() != self._process:
            return
        with self._changed:
            if len(self._waiting) >= _WAITING:
                raise PermanentError(f"{_WAITING} findings wait for it already")
            self._waiting.append(finding)
            self._changed.notify()

    def finish(self) -> None:
        """No more long pauses, and the end when all is done."""
        if os.getpid() == self._process:
            with self._changed:
                self._closing = True
                self._changed.notify()

    def join(self, timeout: float) -> None:
        """Wait for the end; what is not done by then is a failure."""
        if os.getpid() != self._process:
            return
        self._thread.join(timeout)
        if self._thread.is_alive():
            self._failed(self._action, PermanentError("it was not done when training ended"))

    def _work(self) -> None:
        again: list[Finding] = []
        while (finding := self._next()) is not None:
            if not self._attempted(finding, self._action.pauses):
                again.append(finding)
        # All have been tried; those that failed get what time is left, the pauses being short.
        pauses = self._action.pauses
        for at, pause in enumerate(pauses, 1):
            if not again:
                break
            time.sleep(min(pause, _LAST_PAUSE))
            again = [finding for finding in again if not self._attempted(finding, pauses[at:])]

    def _next(self) -> Finding | None:
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closing)
            return self._waiting.popleft() if self._waiting else None

    def _attempted(self, finding: Finding, pauses: Sequence[float]) -> bool:
        """Do it, again after each pause; whether it is over: it is not if it failed, and training is over."""
        for pause in (*pauses, None):
            try:
                self._action.do(finding, self._run)
                return True
            except Exception as error:  # whatever a library raises; perhaps it passes
                if isinstance(error, PermanentError) or pause is None:
                    self._failed(self._action, error)
                    return True
            with self._changed:
                if self._changed.wait_for(lambda: self._closing, pause):
                    return False
        return True
