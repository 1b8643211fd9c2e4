"""`tensometer` and `python -m tensometer`: Ctrl-C ends them with one sentence, also while modules are imported."""

import os
import signal
import sys
from contextlib import suppress

EXIT_INTERRUPTED = 130


def main() -> int:
    """Run the command line; returns the exit code."""
    # Where interrupts are ignored, as in a shell's background, they stay so.
    heeded = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if heeded:
        # An exception would not do: what extension modules raise when one meets them is an ImportError like any other.
        signal.signal(signal.SIGINT, _end)
    from tensometer.cli import main as run

    try:
        if heeded:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        return run()
    except KeyboardInterrupt:
        _say_interrupted()
        return EXIT_INTERRUPTED


def _end(*_: object) -> None:
    _say_interrupted()
    os._exit(EXIT_INTERRUPTED)


def _say_interrupted() -> None:
    if sys.stderr is not None:
        with suppress(OSError):
            print("tensometer: interrupted", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
