"""When a run shall end before its last step: a signal, or the end of its time."""

import math
import signal
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Self

from hiss.errors import UsageError


class Stopping:
    """Listens for SIGTERM and Ctrl-C while the context lasts; a second Ctrl-C interrupts at once."""

    def __init__(self, minutes: float | None) -> None:
        if minutes is not None:
            check_minutes(minutes)
        self.started = time.monotonic()
        self.reserve = 0.0
        """Seconds of the budget that the end of the run needs for itself."""
        self._seconds = None if minutes is None else 60 * minutes
        self._signal: str | None = None
        self._previous: dict[int, Callable[[int, FrameType | None], object] | int | None] = {}

    @property
    def elapsed(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self.started

    @property
    def seconds_left(self) -> float:
        """Seconds of the budget that are left; infinite without one."""
        return math.inf if self._seconds is None else max(self._seconds - self.elapsed, 0.0)

    @property
    def reason(self) -> str | None:
        """Why the run shall end now: "SIGTERM", "SIGINT", "minutes", or None."""
        return self._signal or ("minutes" if self.seconds_left <= self.reserve else None)

    def __enter__(self) -> Self:
        # Python lets only the main thread listen to signals.
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                self._previous[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *error: object) -> None:
        self._restore()

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._signal = signal.Signals(number).name
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous.clear()


def check_minutes(minutes: float) -> None:
    """Raises `UsageError` unless a run can last so long."""
    if not 0 < minutes < math.inf:
        raise UsageError(f"minutes must be above 0, not {minutes}")
