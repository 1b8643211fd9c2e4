"""The command line: `tensometer scan`; those for runs are in cli_runs.py and cli_watch.py."""

import argparse
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

from tensometer._core import __version__
from tensometer.checkpoint import printable, reason
from tensometer.cli_output import check_output, output_path, positive, replace, stdout
from tensometer.cli_runs import add_run_commands
from tensometer.cli_watch import add_watch_command
from tensometer.flags import SERVE_DTYPES, Severity
from tensometer.report import FORMATS, SORT_KEYS, sort_entries, write_report
from tensometer.report.progress import progress_bar
from tensometer.scan_report import CHANGES
from tensometer.scanner import scan

EXIT_CLEAN, EXIT_FLAGS, EXIT_BAD_INPUT = 0, 1, 2

_EPILOG = (
    "exit codes: 0 no flag at or above --fail-on, 1 flags at or above it, 2 bad input or arguments, 130 interrupted"
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code. KeyboardInterrupt passes."""
    try:
        options = _parser().parse_args(arguments)
        return int(options.run(options))
    except BrokenPipeError:
        # The reader has seen enough.
        return EXIT_CLEAN
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        return _fail(f"{place}{reason(error)}", EXIT_BAD_INPUT)
    except (ValueError, ImportError) as error:
        return _fail(str(error), EXIT_BAD_INPUT)
    except MemoryError:
        return _fail("out of memory", EXIT_BAD_INPUT)


def _fail(sentence: str, code: int) -> int:
    """Say why, where there is a stderr to say it on. (Names from files reach it: a terminal would obey some.)"""
    if sys.stderr is not None:
        with suppress(OSError):
            print(f"tensometer: {printable(sentence)}", file=sys.stderr)
    return code


def _scan(options: argparse.Namespace) -> int:
    if options.output == Path("-"):
        options.output = None
    if options.output is not None:
        check_output(options.output, [*options.paths, *filter(None, [options.compare])])
    elif sys.stdout is None:
        raise ValueError("standard output is closed; write the report to a file with --output")
    if options.sort in CHANGES and options.compare is None:
        raise ValueError(f"--sort {options.sort}: there is nothing to sort by without --compare")
    with progress_bar() as progress:
        report = scan(
            options.paths,
            filter=options.filter,
            units=options.units,
            serve_dtype=options.serve_dtype,
            compare=options.compare,
            threads=options.threads,
            progress=progress,
        )
    if not report.entries:
        which = f" whose name matches {options.filter!r}" if options.filter else ""
        raise ValueError(f"{', '.join(options.paths)}: there is no tensor{which}")
    if options.sort is not None or options.reverse:
        report = sort_entries(report, options.sort or "name", reverse=options.reverse)
    if options.output is None:
        with stdout() as stream:
            write_report(report, options.format, stream)
    else:
        replace(options.output, lambda stream: write_report(report, options.format, stream))
    if report.totals.skipped == report.totals.tensors:
        return _fail(f"{', '.join(options.paths)}: no tensor could be read; see the flags", EXIT_BAD_INPUT)
    if options.fail_on == "never" or report.worst is None:
        return EXIT_CLEAN
    return EXIT_FLAGS if report.worst >= Severity[options.fail_on.upper()] else EXIT_CLEAN


class _Parser(argparse.ArgumentParser):
    """What argparse repeats of the arguments may be the names of files, which a terminal would obey."""

    def error(self, message: str) -> NoReturn:
        """The usage and one sentence on stderr, then exit code 2."""
        super().error(printable(message))


def _parser() -> argparse.ArgumentParser:
    about = "See the health of every tensor of a model or of a training run."
    parser = _Parser(prog="tensometer", description=about)
    parser.add_argument("--version", action="version", version=f"tensometer {__version__}")
    commands = parser.add_subparsers(dest="command", required=True)
    _add_scan(commands)
    add_run_commands(commands)
    add_watch_command(commands)
    return parser


def _add_scan(commands: "argparse._SubParsersAction[Any]") -> None:
    command = commands.add_parser(
        "scan",
        help="summarise and judge every tensor of a checkpoint",
        description="Summarise and judge every tensor of checkpoint files (.safetensors, .pt, .pth, .bin, .ckpt, .npy, "
        ".npz, .gguf), of shards through their *.index.json, or of folders.",
        epilog=_EPILOG,
    )
    command.set_defaults(run=_scan)
    command.add_argument("paths", nargs="+", metavar="PATH", help="a file, an index of shards, or a folder")
    command.add_argument("--format", choices=tuple(FORMATS), default="table", help="default: table")
    command.add_argument(
        "--output", "-o", metavar="FILE", type=output_path, help="write the report to a file instead of stdout (-)"
    )
    command.add_argument(
        "--sort",
        choices=SORT_KEYS,
        metavar="KEY",
        help=f"numbers largest first, text from A to Z (default: the files' order); one of {', '.join(SORT_KEYS)}",
    )
    command.add_argument("--reverse", action="store_true", help="turn the order of --sort round")
    command.add_argument("--filter", metavar="REGEX", help="only tensors whose name the expression matches somewhere")
    command.add_argument("--units", action="store_true", help="also judge rows: dead, constant, identical")
    command.add_argument("--threads", type=positive, metavar="N", help="default: the CPUs this process may use")
    command.add_argument(
        "--fail-on",
        choices=(*(severity.label for severity in Severity), "never"),
        default="error",
        help="the least severity that makes the exit code 1 (default: error)",
    )
    command.add_argument("--compare", metavar="BASELINE", help="pair every tensor with the baseline's of the same name")
    command.add_argument(
        "--serve-dtype",
        choices=SERVE_DTYPES,
        default="auto",
        help="the type whose range values should fit (default: auto, float16 for float32 and float64 tensors)",
    )
