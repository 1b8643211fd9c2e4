"""Threads that take turns, and signals that have to wait."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from threading import RLock
from weakref import WeakSet

_all: WeakSet["Turns"] = WeakSet()


class Turns:
    """One thread at a time is at work: PyTorch calls the hooks of each device's backward pass in a thread of its own.

    A forked child, which has only one thread, need not wait for those of its parent.
    """

    def __init__(self) -> None:
        self._lock = RLock()
        self._working = False
        _all.add(self)

    @contextmanager
    def turn(self) -> Iterator[bool]:
        """Wait for other threads. False in the midst of a turn of this thread's: a signal's handler is at work."""
        with self._lock:
            first, self._working = not self._working, True
            try:
                yield first
            finally:
                self._working = not first

    def reopen(self) -> None:
        """What another thread has shut is open; what this one has shut stays so."""
        if not self._lock._is_owned():  # type: ignore[attr-defined]
            self._lock._at_fork_reinit()  # type: ignore[attr-defined]
            self._working = False


def _reopen_all() -> None:
    for one in list(_all):
        one.reopen()


os.register_at_fork(after_in_child=_reopen_all)
