"""The flight recorder: the last steps in memory, to be written when something has happened."""

import os
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

    def resize(self, steps: int) -> None:
        """Hold another number of steps: of those that are held the last."""
        self._steps = deque(self._steps, maxlen=steps)

    def hold(self, step: int, records: list[Record]) -> None:
        """Keep a step, and forget the oldest."""
        self._steps.append((step, records))

    def release(self) -> list[Record]:
        """What is held, oldest first; it is held no more."""
        records = [record for _, held in self._steps for record in held]
        self._steps.clear()
        return records


class LastWords:
    """Calls `speak(reason, ends)` when the process is told to end (SIGTERM), then lets happen what would have happened.

    ends: whether that is the end of the process; otherwise a handler that was there before decides, and training may
    go on. Until close(). Only handlers of the main thread can be set: made elsewhere, it hears nothing.
    """

    def __init__(self, speak: Callable[[str, bool], None]) -> None:
        self._speak: Callable[[str, bool], None] | None = speak
        self._process = os.getpid()
        self._before: Any = None
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGTERM, self._on_signal)

    def close(self) -> None:
        """Give the signal back. Where someone else has taken it since, and may call on, hand it through."""
        self._speak = None
        here = threading.current_thread() is threading.main_thread()
        if here and signal.getsignal(signal.SIGTERM) == self._on_signal:
            signal.signal(signal.SIGTERM, self._next())

    def _next(self) -> Any:
        """The handler that was there before, without those of closed ones."""
        other = getattr(self._before, "__self__", None)
        if isinstance(other, LastWords) and other._speak is None:
            return other._next()
        return signal.SIG_DFL if self._before is None else self._before

    def _ends(self) -> bool:
        following = self._next()
        other = getattr(following, "__self__", None)
        return other._ends() if isinstance(other, LastWords) else following == signal.SIG_DFL

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        # A process that was forked has neither the writer's thread nor anything to say.
        if self._speak is not None and os.getpid() == self._process:
            self._speak("SIGTERM", self._ends())
        following = self._next()
        if callable(following):
            following(number, frame)
        elif following == signal.SIG_DFL:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)


def unhandled_exception() -> BaseException | None:
    """What ends the interpreter, if it is an exception: known once it has been printed."""
    return getattr(sys, "last_exc", None) or getattr(sys, "last_value", None)
