"""The command `tensometer watch`."""

import argparse
import math
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tensometer.checkpoint import counted
from tensometer.cli_output import check_output, output_path, stdout
from tensometer.report.table import write_text
from tensometer.rules import Rule, Severity, chosen

if TYPE_CHECKING:
    from tensometer.actions import Action
    from tensometer.watch import Outcome

_EPILOG = (
    "exit codes: 0 no finding at or above --fail-on, 1 findings at or above it, 2 bad input, a run that cannot be read "
    "or a rule that raised an exception, 130 interrupted, 143 terminated"
)


def _watch(options: argparse.Namespace) -> int:
    # What only this command needs is imported by it alone: the others begin sooner.
    from tensometer.watch import Options, view_of, watch

    if options.findings is not None:
        check_output(options.findings, [], "--findings")
    rules = _rules(options.rules)
    if not rules:
        raise ValueError(f"--rules: {options.rules} leaves no rule on")
    given = partial(_actions, options)
    given()  # what is wrong with them is said before anything is waited for
    chosen_options = Options(rules, options.once, options.findings, given, options.timeout)
    with stdout() as stream:
        with view_of(stream, several=len(options.runs) > 1) as view:
            outcome = watch(options.runs, chosen_options, view)
        write_text(stream, _summary(outcome))
    if outcome.failed:
        raise ValueError("; ".join(outcome.failed.values()))
    if options.fail_on != "never" and outcome.worst is not None and outcome.worst >= Severity.of(options.fail_on):
        return 1
    # Nothing that counts was found, but not everything was asked.
    broken = dict.fromkeys(name for status in outcome.statuses.values() for name in status.broken)
    if broken:
        raise ValueError(f"rules that were asked no more, as they raised an exception: {', '.join(broken)}")
    return 0


def _rules(path: Path | None) -> Sequence[Rule]:
    try:
        return chosen(True if path is None else path)
    except (OSError, ValueError, ImportError):
        raise
    except Exception as error:  # whatever a file with rules of one's own raises
        raise ValueError(f"{path or 'rules'}: {type(error).__name__}: {error}") from error


def _actions(options: argparse.Namespace) -> "Sequence[Action]":
    from tensometer import actions

    act_on = Severity.of(options.act_on)
    made: list[Action] = []
    for option, make, given in (
        ("--webhook", actions.webhook, options.webhook),
        ("--command", actions.command, options.commands),
        ("--notify", actions.notify, options.notify),
    ):
        for text in given:
            try:
                made.append(make(text, severity=act_on))
            except ValueError as error:
                raise ValueError(f"{option}: {error}") from error
    if options.stop_training:
        made.append(actions.request_stop(severity=max(act_on, Severity.ERROR)))
    return made


def _summary(outcome: "Outcome") -> str:
    from tensometer.watch import counted_severities

    lines = []
    for run, status in outcome.statuses.items():
        if not status.begun:
            continue
        counts: Counter[Severity] = outcome.counts[run]
        found = f"{counted(counts.total(), 'finding')} ({', '.join(counted_severities(counts))})"
        state = "" if status.ended else ", not ended"
        lines.append(f"{run}: {found if counts else 'no findings'} in {counted(status.observed, 'step')}{state}\n")
    return "".join(lines)


def add_watch_command(commands: "argparse._SubParsersAction[Any]") -> None:
    """Adds it to the parser."""
    command = commands.add_parser(
        "watch",
        help="judge training runs while they are written, or afterwards",
        description="Judge training runs by rules while they are written, or afterwards (--once).",
        epilog=_EPILOG,
    )
    command.set_defaults(run=_watch)
    labels = [severity.label for severity in Severity]
    command.add_argument("runs", nargs="+", metavar="RUN", help="a run directory or URL, which may not be there yet")
    command.add_argument("--once", action="store_true", help="judge what is there, and do not wait for more")
    command.add_argument("--rules", metavar="FILE", type=output_path, help="settings of rules in TOML")
    command.add_argument(
        "--findings", metavar="FILE", type=output_path, help="where findings are written (default: RUN/findings.jsonl)"
    )
    command.add_argument(
        "--fail-on",
        choices=(*labels, "never"),
        default="warning",
        help="the least severity that makes the exit code 1 (default: warning)",
    )
    command.add_argument(
        "--timeout", type=_seconds, metavar="SECONDS", help="end when nothing was heard of a run for so long"
    )
    command.add_argument("--webhook", action="append", default=[], metavar="URL", help="POST findings there as JSON")
    command.add_argument(
        "--command",
        dest="commands",
        action="append",
        default=[],
        metavar="CMD",
        help="run it with each finding as JSON on stdin",
    )
    command.add_argument(
        "--notify", action="append", default=[], metavar="URL", help="tell people: a URL of the apprise library"
    )
    command.add_argument("--stop-training", action="store_true", help="ask for the run's end at an error")
    command.add_argument(
        "--act-on", choices=labels, default="warning", help="the least severity that is acted on (default: warning)"
    )


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise argparse.ArgumentTypeError(f"must be a positive number of seconds, not {text!r}")
    return seconds
