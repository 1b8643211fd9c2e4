"""Rules: conditions of training that can be told from summaries, and the findings."""

from tensometer.rules.base import Condition, Rule
from tensometer.rules.engine import Engine
from tensometer.rules.finding import Finding, Severity
from tensometer.rules.group import Group
from tensometer.rules.registry import known, load, register
from tensometer.rules.settings import chosen, default, from_file, from_settings
from tensometer.rules.state import State
from tensometer.rules.step import Step

__all__ = [
    "Condition",
    "Engine",
    "Finding",
    "Group",
    "Rule",
    "Severity",
    "State",
    "Step",
    "chosen",
    "default",
    "from_file",
    "from_settings",
    "known",
    "load",
    "register",
]
