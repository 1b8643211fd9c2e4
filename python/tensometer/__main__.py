"""`tensometer` and `python -m tensometer`: Ctrl-C ends them with one sentence, also while modules are imported."""

import sys
from contextlib import suppress

EXIT_INTERRUPTED = 130


def main() -> int:
    """Run the command line; returns the exit code."""
    try:
        from tensometer.cli import main as run

        return run()
    except KeyboardInterrupt:
        if sys.stderr is not None:
            with suppress(OSError):
                print("tensometer: interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
