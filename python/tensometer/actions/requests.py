"""What an action may ask of the training: raised out of the action, heeded by whoever runs it."""

from tensometer.rules import Finding


class Request(Exception):  # noqa: N818, what is asked for is no error
    """Something that is asked of a training. finding: what it is asked for, if it is one."""

    def __init__(self, reason: str, finding: Finding | None = None) -> None:
        # Both are arguments of the exception, so that it can be pickled.
        super().__init__(reason, finding)
        self.reason, self.finding = reason, finding

    def __str__(self) -> str:
        return self.reason


class StopTraining(Request):
    """Raised by Monitor.step(), behind a step that is closed, when an action or another process asks for the end.

    By an action with `before_update` also out of the optimizer's step(), before that has changed a weight; the step of
    the monitor is then closed too. `reason` says why; `finding` is the Finding, if it was one.
    """


class SkipUpdate(Request):
    """Leave out the update that the optimizer is about to make."""


class Dump(Request):
    """Store the steps that the flight recorder holds."""
