"""The commands for runs: `tensometer ls`, `show`, `export`."""

import argparse
from pathlib import Path
from typing import Any

from tensometer.cli_output import check_output, output_path, positive, replace, stdout
from tensometer.report import EXPORTS, SHOWN, export_run, write_run, write_series
from tensometer.store import open_run


def _ls(options: argparse.Namespace) -> int:
    with stdout() as stream:
        write_run(open_run(options.run_url), stream, collection=options.collection, regex=options.filter)
    return 0


def _show(options: argparse.Namespace) -> int:
    chosen = {name: getattr(options, name) for name in ("collection", "phase", "rank", "statistics", "last")}
    with stdout() as stream:
        write_series(open_run(options.run_url), options.name, stream, **chosen)
    return 0


def _export(options: argparse.Namespace) -> int:
    chosen = {name: getattr(options, name) for name in ("collection", "phase", "rank", "statistics")}
    chosen["regex"] = options.filter
    if options.output in (None, Path("-")):
        with stdout() as stream:
            export_run(options.run_url, options.to, stream, **chosen)
    else:
        check_output(options.output, [])
        replace(options.output, lambda stream: export_run(options.run_url, options.to, stream, **chosen))
    return 0


def add_run_commands(commands: "argparse._SubParsersAction[Any]") -> None:
    """Adds them to the parser."""
    ls = commands.add_parser("ls", help="what a training run recorded", description="What a training run recorded.")
    show = commands.add_parser("show", help="one series of a training run", description="One series of a training run.")
    about = "The rows of a training run as Parquet, CSV or lines of JSON."
    export = commands.add_parser("export", help="the rows of a training run for other programs", description=about)
    for command, run in ((ls, _ls), (show, _show), (export, _export)):
        command.set_defaults(run=run)
        command.add_argument("run_url", metavar="RUN", help="a run directory or URL")
        command.add_argument("--collection", metavar="NAME", help="weights, gradients, losses, ...")
    for command in (ls, export):
        command.add_argument("--filter", metavar="REGEX", help="only names that the expression matches somewhere")
    for command in (show, export):
        command.add_argument("--phase", metavar="NAME", help="only rows of that phase")
        command.add_argument("--rank", type=int, metavar="N", help="only rows of that writer")
    export.add_argument("--to", required=True, choices=tuple(EXPORTS), help="the format")
    export.add_argument("--output", "-o", metavar="FILE", type=output_path, help="a file instead of stdout (-)")
    export.add_argument("--statistics", type=_names, metavar="A,B", help="default: all")
    show.add_argument("name", metavar="NAME", help="a name that `tensometer ls` lists")
    show.add_argument("--last", type=positive, default=20, metavar="N", help="how many rows (default: 20)")
    show.add_argument("--statistics", type=_names, default=SHOWN, metavar="A,B", help=", ".join(SHOWN))


def _names(text: str) -> list[str]:
    return text.split(",")
