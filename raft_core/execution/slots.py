"""Which stage's process starts next, where more are ready than may run at once."""

from __future__ import annotations

import heapq
import itertools
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

# A run ends early if what takes longest, and what most other stages wait for, starts first.
SHARED, LONG, SHORT = 0, 1, 2
# A stage that waited for another one's artifact asks for a slot this soon after it ended.
SUCCESSION_SECONDS = 1.0


class Slots:
    """At most so many holders at once; of those that wait, the lowest rank, then the first come.

    When a holder of rank SHARED ends, waiters of rank SHORT get no slot for a moment: what it made
    lets others begin, which go first.
    """

    def __init__(self, count: int = 1, clock: Callable[[], float] = time.monotonic) -> None:
        self._free, self._clock = count, clock
        self._numbers = itertools.count()
        self._waiting: list[tuple[int, int]] = []
        self._short_from = float("-inf")
        self._changed = threading.Condition()

    @contextmanager
    def hold(self, rank: int = SHARED) -> Iterator[None]:
        with self._changed:
            mine = (rank, next(self._numbers))
            heapq.heappush(self._waiting, mine)
            while (pause := self._pause(mine)) is None or pause > 0:
                self._changed.wait(pause)
            heapq.heappop(self._waiting)
            self._free -= 1
            self._changed.notify_all()
        try:
            yield
        finally:
            with self._changed:
                self._free += 1
                if rank == SHARED:
                    self._short_from = self._clock() + SUCCESSION_SECONDS
                self._changed.notify_all()

    def _pause(self, waiter: tuple[int, int]) -> float | None:
        """Seconds until it may have a slot; None: until something changes."""
        if not self._free or self._waiting[0] != waiter:
            return None
        return self._short_from - self._clock() if waiter[0] == SHORT else 0.0
