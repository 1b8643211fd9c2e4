"""Actions inside the process that trains."""

import logging
from collections.abc import Callable
from typing import Unpack

from tensometer import notices
from tensometer.actions.base import Action, Filter, Limits, action
from tensometer.actions.requests import Dump, SkipUpdate, StopTraining
from tensometer.rules import Finding, Severity

_LEVELS = {
    Severity.INFO: logging.INFO,
    Severity.WARNING: logging.WARNING,
    Severity.ERROR: logging.ERROR,
    Severity.FATAL: logging.CRITICAL,
}


def log(logger: logging.Logger | None = None, **limits: Unpack[Filter]) -> Action:
    """Tell a logger, by default "tensometer", at the level of the finding's severity."""
    chosen = logging.getLogger("tensometer") if logger is None else logger
    if not isinstance(chosen, logging.Logger):
        raise TypeError(f"logger: {logger!r:.100} is no logging.Logger")

    def do(finding: Finding, _: str) -> None:
        chosen.log(_LEVELS[finding.severity], "%s", finding, extra={"finding": finding})

    return Action("log", do, Limits(**limits))


def warn(**limits: Unpack[Filter]) -> Action:
    """A RuntimeWarning at the line of the training loop."""
    return Action("warn", lambda finding, _: notices.warn(str(finding)), Limits(**limits))


def call(function: Callable[[Finding], object], **limits: Unpack[Filter]) -> Action:
    """Call a function with the finding. (A function that is given without this is called with every one.)"""
    found = action(function, "function")
    return Action(found.name, found.do, Limits(**limits))


def stop_training(*, before_update: bool = False, **limits: Unpack[Filter]) -> Action:
    """Raise StopTraining out of Monitor.step(), once the step is closed. severity: by default "error".

    before_update: gradients are judged at every step before an optimizer uses them, by the rules that need nothing
    else; if there is such a finding, StopTraining is raised out of the optimizer's step() and the weights stay as they
    are.
    """

    def do(finding: Finding, _: str) -> None:
        raise StopTraining(str(finding), finding)

    chosen = Limits.of(limits, severity=Severity.ERROR)
    return Action("stop_training", do, chosen, before_update=_flag("before_update", before_update))


def skip_update(**limits: Unpack[Filter]) -> Action:
    """Leave out an optimizer's update if a rule that needs nothing but gradients finds them wrong, and go on.

    The gradients are set to None, which optimizers pass by: no weight, no momentum, no count of steps changes. The
    finding is told as any other when the step is over. severity: by default "error". repeated: by default true, or only
    the first bad update would be left out.
    """

    def do(finding: Finding, _: str) -> None:
        raise SkipUpdate(str(finding), finding)

    chosen = Limits.of(limits, severity=Severity.ERROR, repeated=True)
    return Action("skip_update", do, chosen, before_update=True)


def snapshot(checkpoint: Callable[[Finding], object] | None = None, **limits: Unpack[Filter]) -> Action:
    """Store what the flight recorder holds, and call a function that saves a checkpoint, in the loop's own thread."""
    save = None if checkpoint is None else action(checkpoint, "checkpoint")

    def do(finding: Finding, run: str) -> None:
        failure = None
        try:
            if save is not None:
                save.do(finding, run)
        except Exception as error:  # whatever the function raises, the recorder is not lost for it
            failure = error
        raise Dump(str(finding), finding) from failure

    return Action("snapshot", do, Limits(**limits))


def _flag(name: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise TypeError(f"{name}: {value!r} is neither True nor False")
    return value
