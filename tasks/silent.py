"""A display and a tracker that say nothing: a study's cells are told of as a whole."""

from __future__ import annotations

from tasks.display import Display
from tasks.tracking import Tracker


class SilentDisplay(Display):
    """Only what went wrong is shown."""

    def progress(self, label: str, done: int, total: int) -> None:
        pass

    def cached(self, label: str) -> None:
        pass

    def finished(self, label: str, seconds: float) -> None:
        pass


class SilentTracker(Tracker):
    """Its stages have no run of their own."""

    def __init__(self) -> None:
        self._outbox, self._run = None, ""
