"""A progress bar on the terminal while a scan runs."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tensometer.extras import available


@contextmanager
def progress_bar() -> Iterator[Callable[[int, int], None] | None]:
    """What to pass as `progress`: rich's bar on stderr, None where stderr is no terminal or rich is missing."""
    rich = available("rich.progress") if sys.stderr is not None and sys.stderr.isatty() else None
    if rich is None:
        yield None
        return
    from rich.console import Console

    columns = (
        rich.TextColumn("scanning"),
        rich.BarColumn(),
        rich.DownloadColumn(),
        rich.TransferSpeedColumn(),
        rich.TimeRemainingColumn(),
    )
    with rich.Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("scan", total=None)

        def progress(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        yield progress
