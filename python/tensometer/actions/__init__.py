"""What is done when a rule has found something: `Monitor(on_finding=actions.log())`, or a list of them.

Every action takes the keywords of Limits: `severity`, `rules`, `repeated`, `seconds`, `most`. A function of one's own
is called with every Finding; actions.call(function, severity="error") only with some.
"""

from tensometer.actions.base import Action, Limits, actions_of
from tensometer.actions.here import call, log, skip_update, snapshot, stop_training, warn
from tensometer.actions.outside import ask_to_stop, command, notify, request_stop, signal_process, webhook
from tensometer.actions.requests import Dump, Request, SkipUpdate, StopTraining
from tensometer.actions.runner import Runner

__all__ = [
    "Action",
    "Dump",
    "Limits",
    "Request",
    "Runner",
    "SkipUpdate",
    "StopTraining",
    "actions_of",
    "ask_to_stop",
    "call",
    "command",
    "log",
    "notify",
    "request_stop",
    "signal_process",
    "skip_update",
    "snapshot",
    "stop_training",
    "warn",
    "webhook",
]
