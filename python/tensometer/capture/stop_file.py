"""Requests of other processes to end a training: a file in the run, as docs/format.md specifies it."""

import json
import threading
import time

from tensometer.store import Place
from tensometer.store.layout import STOP_FILE

# Seconds between looks: a local file costs microseconds, one behind a URL a request over the network.
_LOCAL_SECONDS, _REMOTE_SECONDS = 1.0, 30.0

_Stamp = tuple[int, int, int] | bytes | None


class StopFile:
    """Looks whether there is another file than at first. That of an earlier launch of the run stops nothing.

    first: the number of this launch's first step; a request that is about an earlier one is of an earlier launch too,
    however late it comes. A local file is looked at when asked; for what is behind a URL there is a thread, so that
    nobody waits for a network.
    """

    def __init__(self, place: Place, first: int = 0, seconds: float | None = None) -> None:
        self._place, self._first = place, first
        self._seconds = seconds or (_LOCAL_SECONDS if place.folder is not None else _REMOTE_SECONDS)
        self._known: _Stamp = None
        self._reason: str | None = None
        self._next = 0.0
        self._closed = threading.Event()
        if place.folder is not None:
            self._known = self._stamp()
        else:
            threading.Thread(target=self._watch, name="tensometer-requests", daemon=True).start()

    def asked(self) -> str | None:
        """Why training is to end; None if nobody has asked, or this was told."""
        if self._place.folder is not None and time.monotonic() >= self._next:
            self._look()
            self._next = time.monotonic() + self._seconds
        if self._reason is None:
            return None
        reason, self._reason = self._reason, None
        return reason

    def close(self) -> None:
        """Look no more."""
        self._closed.set()

    def _watch(self) -> None:
        known = False
        while not self._closed.is_set():
            try:
                if known:
                    self._look()
                else:
                    self._known, known = self._stamp(), True
            except Exception:  # whatever a store raises: it is asked again
                pass
            self._closed.wait(self._seconds)

    def _look(self) -> None:
        stamp = self._stamp()
        if stamp is not None and stamp != self._known:
            self._reason = self._read()
        self._known = stamp

    def _stamp(self) -> _Stamp:
        try:
            if self._place.folder is None:
                return self._place.read(STOP_FILE)
            status = (self._place.folder / STOP_FILE).stat()
            return status.st_mtime_ns, status.st_size, status.st_ino
        except FileNotFoundError:
            return None
        except OSError:
            if self._place.folder is None:
                raise
            return self._known  # of a file system that is away for a moment nothing is known

    def _read(self) -> str | None:
        # Whoever has made the file means it, also with `touch`.
        try:
            request = json.loads(self._place.read(STOP_FILE))
            step = request.get("step")
            return None if isinstance(step, int) and step < self._first else str(request["reason"])
        except Exception:
            return f"there is a file {STOP_FILE} in the run"
