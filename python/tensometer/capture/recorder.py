"""The flight recorder: the last steps in memory, to be written when something has happened."""

import signal
import sys
import threading
from collections import deque
from collections.abc import Callable
from types import FrameType
from typing import Any

from tensometer.store import Record


class FlightRecorder:
    """Holds what was captured in the last `steps` steps and is not stored anyway."""

    def __init__(self, steps: int) -> None:
        self._steps: deque[tuple[int, list[Record]]] = deque(maxlen=steps)

    def hold(self, step: int, records: list[Record]) -> None:
        """Keep a step, and forget the oldest."""
        self._steps.append((step, records))

    def release(self) -> list[Record]:
        """What is held, oldest first; it is held no more."""
        records = [record for _, held in self._steps for record in held]
        self._steps.clear()
        return records


class LastWords:
    """Calls `speak(reason)` when the process is told to end (SIGTERM), once, and lets it end as it would have ended."""

    def __init__(self, speak: Callable[[str], None]) -> None:
        self._speak = speak
        self._before: Any = None
        # Only there may handlers be set; elsewhere the recorder is written on exceptions and on request.
        self._heeded = threading.current_thread() is threading.main_thread()
        if self._heeded:
            self._before = signal.signal(signal.SIGTERM, self._on_signal)

    def close(self) -> None:
        """Give the signal back, unless someone else has taken it since."""
        here = threading.current_thread() is threading.main_thread()
        if self._heeded and here and signal.getsignal(signal.SIGTERM) == self._on_signal:
            signal.signal(signal.SIGTERM, signal.SIG_DFL if self._before is None else self._before)
        self._heeded = False

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        before = self._before
        self.close()
        self._speak("SIGTERM")
        if callable(before):
            before(number, frame)
        elif before != signal.SIG_IGN:
            signal.raise_signal(number)


def unhandled_exception() -> BaseException | None:
    """What ends the interpreter, if it is an exception: known once it has been printed."""
    return getattr(sys, "last_exc", None) or getattr(sys, "last_value", None)
