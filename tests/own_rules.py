"""Rules of one's own and findings, for tests of what is done with them."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import tensometer
from tensometer.rules import Condition, Finding, Severity, State, Step


class NotFinite(tensometer.Rule):
    """A gradient is not finite."""

    needs = ("gradients",)
    causes = ("a division by zero",)
    severity: Severity = Severity.FATAL

    def check(self, step: Step, state: State) -> Iterable[Condition]:
        """The count of what is not finite."""
        rows = self.rows(step, "gradients")
        yield Condition(rows, rows["nonfinite"] > 0, "{tensor} is not finite", rows["nonfinite"], 0.0)


class TooLarge(tensometer.Rule):
    """Something that was recorded is too large."""

    needs = ("custom",)
    severity: Severity = Severity.ERROR
    cooldown: int = 5
    limit: float = 10.0

    def check(self, step: Step, state: State) -> Iterable[Condition]:
        """The largest magnitude."""
        rows = self.rows(step, "custom")
        yield Condition(rows, rows["linf"] > self.limit, "{tensor} is {value:g}", rows["linf"], self.limit)


def finding(rule: str = "TooLarge", **changes: Any) -> Finding:
    """A finding of an error."""
    values: dict[str, Any] = {"rule": rule, "severity": Severity.ERROR, "step": 3, "rank": 0, "tensor": "x"}
    values |= {"others": (), "collection": "custom", "phase": "train", "kind": "", "value": 11.0, "threshold": 10.0}
    values |= {"window": (3, 3), "sentence": "x is 11", "causes": ("why",), "remedies": ("what to try",)}
    return Finding(**(values | changes))


def write_run(path: Path, values: Iterable[float], **settings: Any) -> None:
    """A run of which x takes these values."""
    with tensometer.Monitor(path, every=1, collections=["custom", "losses"], **settings) as monitor:
        for value in values:
            monitor.record("x", np.full(4, value, np.float32))
            monitor.step(loss=1.0)
