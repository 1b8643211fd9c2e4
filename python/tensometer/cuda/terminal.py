"""How far things are, for a person who waits."""

import sys


def progress(text: str) -> None:
    """Shown on one line of stderr if that is a terminal; an empty text clears it."""
    if sys.stderr is not None and sys.stderr.isatty():
        print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)
