"""Steps that are over, in their order, until all that a device computes of them is there."""

import time
from collections import deque
from collections.abc import Callable
from functools import partial

from tensometer.capture.batches import Awaited
from tensometer.capture.step import CapturedStep, Work

# So many steps may wait: what a device is further behind is left out, for nothing waits for it.
MOST_STEPS = 8

# Called with errors of a device.
Failed = Callable[[Exception], None]


class InFlight:
    """Does what is to be done with the rows of steps in the order in which it was asked for.

    On a CPU everything is there at once, and is done at once. guard: runs a piece of work of a step so that no error
    passes. failed: called with the errors of a device, and the step that they are of.
    """

    def __init__(
        self,
        guard: Callable[[CapturedStep, Callable[[], None]], None],
        failed: Callable[[CapturedStep, Exception], None],
    ) -> None:
        self._guard, self._failed = guard, failed
        self._steps: deque[CapturedStep] = deque()
        self._working = False

    @property
    def is_full(self) -> bool:
        """Whether no more may wait."""
        return len(self._steps) >= MOST_STEPS

    def add(self, step: CapturedStep) -> None:
        """A step is over."""
        if step.waiting:
            self._steps.append(step)

    def after(self, step: CapturedStep, work: Callable[[], None]) -> None:
        """Do something of the step in progress when what came before is done: now, if nothing is awaited."""
        if self._working or not (self._steps or step.waiting):
            work()
        else:
            step.waiting.append(Work(None, work))

    def wait_with(self, step: CapturedStep, awaited: Awaited, use: Callable[[], None]) -> None:
        """Do something in the step in progress when it is known what a device has found."""
        step.waiting.append(Work(awaited, use))

    def collect(self) -> None:
        """Go on with what is there. Never waits."""
        while self._steps and not self._working and self._resumed(self._steps[0], Awaited.settled):
            self._steps.popleft()

    def wait(self, step: CapturedStep, seconds: float | None = None, *, lose: bool = False) -> bool:
        """Wait for the device, until all is done with these steps and the one in progress.

        seconds: not for longer; then False. lose: nothing comes any more of what was not done by then.
        """
        until = None if seconds is None else time.monotonic() + seconds
        timely = True

        def settled(awaited: Awaited, failed: Failed) -> bool:
            nonlocal timely
            if not awaited.wait(failed, until):
                timely = False
                if lose:
                    awaited.lose()
            return timely or lose

        # Not in the midst of work: what asks then is a signal's handler, or an action.
        if self._working:
            return False
        while self._steps and self._resumed(self._steps[0], settled):
            self._steps.popleft()
        return not self._steps and self._resumed(step, settled) and timely

    def _resumed(self, step: CapturedStep, settled: Callable[[Awaited, Failed], bool]) -> bool:
        """Whether all is done with a step."""
        while step.waiting:
            awaited, work = step.waiting[0]
            self._working = True
            try:
                if awaited is not None and not settled(awaited, partial(self._failed, step)):
                    return False
                step.waiting.popleft()
                self._guard(step, work)
            finally:
                self._working = False
        return True
