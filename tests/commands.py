"""The command line in a process of its own: in a pipe, or on a terminal."""

import os
import pty
import subprocess
import sys

COMMAND = [sys.executable, "-m", "tensometer"]


def run(*arguments: object, environment: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """The command's own process, as in a pipe."""
    settings = {"PYTHONIOENCODING": "utf-8"} | (environment or {})
    command = [*COMMAND, *map(str, arguments)]
    encoding = settings["PYTHONIOENCODING"]
    return subprocess.run(command, capture_output=True, encoding=encoding, env=os.environ | settings, check=False)


def on_terminal(
    *arguments: str, environment: dict[str, str] | None = None, end: tuple[str, int] | None = None
) -> tuple[int, str]:
    """Exit code and everything that a terminal of 200 columns is sent. end: a signal, and the text that it follows."""
    main, terminal = pty.openpty()
    settings = {"TERM": "xterm-256color", "COLUMNS": "200", "PYTHONIOENCODING": "utf-8"} | (environment or {})
    with subprocess.Popen(
        [*COMMAND, *arguments],
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        env=os.environ | settings,
    ) as process:
        os.close(terminal)
        sent = b""
        while True:
            try:
                part = os.read(main, 1 << 16)
            # Linux answers so when the other side has closed.
            except OSError:
                break
            if not part:
                break
            sent += part
            if end is not None and end[0].encode() in sent:
                process.send_signal(end[1])
                end = None
    os.close(main)
    return process.returncode, sent.decode()
