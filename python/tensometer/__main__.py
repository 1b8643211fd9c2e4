"""`tensometer` and `python -m tensometer`: Ctrl-C and SIGTERM end them with one sentence, and nothing half done."""

import os
import signal
import sys
from contextlib import suppress

EXIT_INTERRUPTED, EXIT_TERMINATED = 130, 143


class _Terminated(KeyboardInterrupt):
    """SIGTERM: what happens is the same."""


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
        if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
            signal.signal(signal.SIGTERM, _terminate)
        return run()
    except _Terminated:
        _say("terminated")
        return EXIT_TERMINATED
    except KeyboardInterrupt:
        _say("interrupted")
        return EXIT_INTERRUPTED


def _end(*_: object) -> None:
    # While modules are imported. (SIGTERM then does what it does to any process.)
    _say("interrupted")
    os._exit(EXIT_INTERRUPTED)


def _terminate(*_: object) -> None:
    raise _Terminated


def _say(what: str) -> None:
    if sys.stderr is not None:
        with suppress(OSError):
            print(f"tensometer: {what}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
