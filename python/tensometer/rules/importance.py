"""The rows that tell of the importance of a booster's features."""

from dataclasses import dataclass

from tensometer.rules.base import Rule
from tensometer.rules.group import Group, Key
from tensometer.rules.step import Step

KINDS = ("gain", "cover", "weight")


@dataclass(frozen=True)
class _Named:
    """The row of that name; equal ones are one to what remembers choices by them."""

    name: str

    def __call__(self, key: Key) -> bool:
        return key.name == self.name


def importance_row(rule: Rule, step: Step, kind: str, of: str = "") -> Group:
    """The row of all importances, or of what else is recorded of them; empty where there is none."""
    return rule.rows(step, "custom", where=_Named(f"feature_importance/{kind}{of}"))


def check_kind(rule: Rule, kind: str) -> None:
    """ValueError, naming the setting, if it is no kind of importance that is recorded."""
    if kind not in KINDS:
        raise ValueError(f"{rule.name}.importance: {kind!r} is none of {', '.join(KINDS)}")
