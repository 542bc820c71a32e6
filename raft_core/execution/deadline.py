"""A deadline for code that reads a text and is not ours: a regular expression, a checker."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class OverdueError(Exception):
    """What was called took longer than it may."""


@contextmanager
def deadline(seconds: float) -> Iterator[None]:
    """Interrupt what runs in here after so many seconds.

    By a signal, which Python's own regular expressions look for as they search. Signals reach the
    main thread alone, where stages run; in another thread nothing is interrupted. A timer that ran
    before goes on afterwards.

    Raises:
        OverdueError: it took longer.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(*_: Any) -> None:
        raise OverdueError(f"it took longer than {seconds:g} s")

    started = time.monotonic()
    handler = signal.signal(signal.SIGALRM, interrupt)
    left, interval = signal.getitimer(signal.ITIMER_REAL)
    try:
        try:
            signal.setitimer(signal.ITIMER_REAL, seconds)
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
    finally:  # an alarm in the one before ends that early, and comes once
        signal.signal(signal.SIGALRM, handler)
        if left:
            rest = max(left - (time.monotonic() - started), 1e-3)
            signal.setitimer(signal.ITIMER_REAL, rest, interval)
