"""The command line: `tensometer scan`, `ls`, `show`."""

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NoReturn, TextIO

from tensometer._core import __version__
from tensometer.checkpoint import printable, reason
from tensometer.flags import SERVE_DTYPES, Severity
from tensometer.report import FORMATS, SHOWN, SORT_KEYS, sort_entries, write_report, write_run, write_series
from tensometer.report.progress import progress_bar
from tensometer.scan_report import CHANGES, ScanReport
from tensometer.scanner import scan
from tensometer.store import open_run

CHECKPOINT_SUFFIXES = (".safetensors", ".pt", ".pth", ".bin", ".ckpt", ".npy", ".npz", ".gguf")

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


@contextmanager
def _stdout() -> Iterator[TextIO]:
    """Standard output, flushed, and named in what goes wrong there: a stream's errors name no file."""
    if sys.stdout is None:
        raise ValueError("standard output is closed")
    try:
        yield sys.stdout
        sys.stdout.flush()
    except OSError as error:
        if error.filename:
            raise
        # Python would complain once more when it flushes at exit what is left in the buffer.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):
            raise
        raise ValueError(f"standard output: {reason(error)}") from error


def _ls(options: argparse.Namespace) -> int:
    with _stdout() as stream:
        write_run(open_run(options.run_url), stream, collection=options.collection, regex=options.filter)
    return EXIT_CLEAN


def _show(options: argparse.Namespace) -> int:
    chosen = {name: getattr(options, name) for name in ("collection", "phase", "rank", "statistics", "last")}
    with _stdout() as stream:
        write_series(open_run(options.run_url), options.name, stream, **chosen)
    return EXIT_CLEAN


def _scan(options: argparse.Namespace) -> int:
    if options.output == Path("-"):
        options.output = None
    if options.output is not None:
        _check_output(options.output, [*options.paths, *filter(None, [options.compare])])
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
        with _stdout() as stream:
            write_report(report, options.format, stream)
    else:
        _replace(options.output, report, options.format)
    if report.totals.skipped == report.totals.tensors:
        return _fail(f"{', '.join(options.paths)}: no tensor could be read; see the flags", EXIT_BAD_INPUT)
    if options.fail_on == "never" or report.worst is None:
        return EXIT_CLEAN
    return EXIT_FLAGS if report.worst >= Severity[options.fail_on.upper()] else EXIT_CLEAN


def _check_output(output: Path, inputs: list[str]) -> None:
    """Before anything is read: a report must have a folder to lie in, and must not replace a checkpoint."""
    if not output.parent.is_dir():
        raise ValueError(f"--output {output}: there is no folder {output.parent}")
    if output.is_dir():
        raise ValueError(f"--output {output}: is a folder")
    same = output.exists() and any(Path(path).exists() and output.samefile(path) for path in inputs)
    if same or (output.exists() and output.suffix.lower() in CHECKPOINT_SUFFIXES):
        raise ValueError(f"--output {output}: is a checkpoint, which a report would replace")


def _replace(output: Path, report: ScanReport, form: str) -> None:
    """Write beside the file and rename, so that a failure leaves an earlier report whole."""
    to_file = not output.exists() or output.is_file()  # not a pipe or a device
    target = output.with_name(f".tensometer.{os.getpid()}.tmp") if to_file else output
    try:
        with target.open("x" if to_file else "w", encoding="utf-8", newline="") as stream:
            write_report(report, form, stream)
        if to_file:
            target.replace(output)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise ValueError(f"--output {output}: {reason(error)}") from error
    finally:
        if to_file:
            target.unlink(missing_ok=True)


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
    _add_runs(commands)
    return parser


def _add_runs(commands: "argparse._SubParsersAction[_Parser]") -> None:
    ls = commands.add_parser("ls", help="what a training run recorded", description="What a training run recorded.")
    show = commands.add_parser("show", help="one series of a training run", description="One series of a training run.")
    for command, run in ((ls, _ls), (show, _show)):
        command.set_defaults(run=run)
        command.add_argument("run_url", metavar="RUN", help="a run directory or URL")
        command.add_argument("--collection", metavar="NAME", help="weights, gradients, losses, ...")
    ls.add_argument("--filter", metavar="REGEX", help="only tensors whose name the expression matches somewhere")
    show.add_argument("name", metavar="NAME", help="a name that `tensometer ls` lists")
    show.add_argument("--phase", metavar="NAME", help="only rows of that phase")
    show.add_argument("--rank", type=int, metavar="N", help="of which writer (default: the first that recorded it)")
    show.add_argument("--last", type=_positive, default=20, metavar="N", help="how many rows (default: 20)")
    show.add_argument(
        "--statistics", type=lambda text: text.split(","), default=SHOWN, metavar="A,B", help=", ".join(SHOWN)
    )


def _add_scan(commands: "argparse._SubParsersAction[_Parser]") -> None:
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
        "--output", "-o", metavar="FILE", type=_output, help="write the report to a file instead of stdout (-)"
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
    command.add_argument("--threads", type=_positive, metavar="N", help="default: the CPUs this process may use")
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


def _output(text: str) -> Path:
    if not text:
        raise argparse.ArgumentTypeError("the path is empty")
    return Path(text)


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a positive integer, not {text!r}")
    return int(text)
