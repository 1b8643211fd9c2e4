"""Threads that take turns."""

import os
from threading import RLock
from weakref import WeakSet

# PyTorch calls the hooks of each device's part of a backward pass in a thread of its own.
_all: WeakSet[object] = WeakSet()


def turns() -> RLock:
    """A lock that a thread may take again. A forked child, which has only one thread, finds it open."""
    lock = RLock()
    _all.add(lock)
    return lock


def _open() -> None:
    for lock in _all:
        lock._at_fork_reinit()  # type: ignore[attr-defined]


os.register_at_fork(after_in_child=_open)
