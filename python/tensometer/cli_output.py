"""Where commands write: standard output or a file, whole or not at all."""

import argparse
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from tensometer.checkpoint import reason

CHECKPOINT_SUFFIXES = (".safetensors", ".pt", ".pth", ".bin", ".ckpt", ".npy", ".npz", ".gguf")


@contextmanager
def stdout() -> Iterator[TextIO]:
    """Standard output, flushed, and named in what goes wrong there: a stream's errors name no file."""
    if sys.stdout is None:
        raise ValueError("standard output is closed")
    try:
        yield sys.stdout
        sys.stdout.flush()
    except OSError as error:
        if error.filename or error.errno is None:  # of a file; of none, but made by our own code
            raise
        # Python would complain once more when it flushes at exit what is left in the buffer.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):
            raise
        raise ValueError(f"standard output: {reason(error)}") from error


def check_output(output: Path, inputs: list[str], option: str = "--output") -> None:
    """Before anything is read: a report must have a folder to lie in, and must not replace what is read."""
    if not output.parent.is_dir():
        raise ValueError(f"{option} {output}: there is no folder {output.parent}")
    if output.is_dir():
        raise ValueError(f"{option} {output}: is a folder")
    same = output.exists() and any(Path(path).exists() and output.samefile(path) for path in inputs)
    if same or (output.exists() and output.suffix.lower() in CHECKPOINT_SUFFIXES):
        raise ValueError(f"{option} {output}: is a checkpoint, which a report would replace")


def replace(output: Path, write: Callable[[TextIO], None]) -> None:
    """Write beside the file and rename, so that a failure leaves an earlier one whole."""
    to_file = not output.exists() or output.is_file()  # not a pipe or a device
    target = output.with_name(f".tensometer.{os.getpid()}.tmp") if to_file else output
    try:
        with target.open("x" if to_file else "w", encoding="utf-8", newline="") as stream:
            write(stream)
        if to_file:
            target.replace(output)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise ValueError(f"--output {output}: {reason(error)}") from error
    finally:
        if to_file:
            target.unlink(missing_ok=True)


def output_path(text: str) -> Path:
    """A path, for argparse."""
    if not text:
        raise argparse.ArgumentTypeError("the path is empty")
    return Path(text)


def positive(text: str) -> int:
    """A whole number from 1, for argparse."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a positive integer, not {text!r}")
    return int(text)
