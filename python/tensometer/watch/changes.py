"""Waits until something has changed in a folder."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tensometer.extras import available
from tensometer.store.layout import SUFFIX

# Without events: how often the times of folders are looked at, which costs microseconds.
_GLANCE = 0.03
# Events that come so close together, in milliseconds, are one.
_TOGETHER = 10


class Changes:
    """New segments in a run's folder: told by the file system if it and `watchfiles` can do so, looked for otherwise.

    A network's file system tells only what this machine has written: whoever waits looks from time to time anyway.
    """

    def __init__(self, folder: Path | None, stop: threading.Event) -> None:
        self._folder, self._stop = folder, stop
        self._library = available("watchfiles") if folder is not None else None
        self._events: Iterator[Any] | None = None
        self._times = self._stamp()

    def wait(self, seconds: float) -> None:
        """Until there is something new, or it is time to look anyway, or to stop."""
        if self._folder is None or not self._folder.is_dir():
            self._stop.wait(seconds)
        elif self._library is not None:
            self._wait_for_event(self._folder, seconds)
        else:
            self._glance(seconds)

    def _wait_for_event(self, folder: Path, seconds: float) -> None:
        assert self._library is not None
        try:
            if self._events is None:
                self._events = self._library.watch(
                    folder,
                    watch_filter=lambda _, path: path.endswith(SUFFIX),
                    debounce=5 * _TOGETHER,
                    step=_TOGETHER,
                    stop_event=self._stop,
                    rust_timeout=max(1, round(1000 * seconds)),
                    yield_on_timeout=True,
                    raise_interrupt=False,
                )
                return  # what came before the first event is asked for has to be looked for
            next(self._events, None)
        except Exception:  # the system has no more watches to give, or the folder is gone
            self._library = self._events = None

    def _glance(self, seconds: float) -> None:
        for _ in range(max(1, round(seconds / _GLANCE))):
            if self._stop.wait(_GLANCE) or self._stamp() != self._times:
                break
        self._times = self._stamp()

    def _stamp(self) -> dict[str, int]:
        """When the folder, and those in it, have changed."""
        if self._folder is None or not self._folder.is_dir():
            return {}
        try:
            folders = [self._folder, *(path for path in self._folder.iterdir() if path.is_dir())]
            return {path.name: path.stat().st_mtime_ns for path in folders}
        except OSError:
            return {}
