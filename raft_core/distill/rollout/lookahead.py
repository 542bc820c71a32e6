"""Look ahead at the next steps of a training, as its data loader gives them."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from itertools import islice
from typing import Any


class Lookahead:
    """Take an epoch's batches step by step, and up to `steps` steps before they are due.

    Looking ahead ends with the epoch: the next one's order is not known before it begins.
    """

    def __init__(self, steps: int) -> None:
        self._steps = steps
        self._waiting: deque[list[Any]] = deque()

    def take(self, batches: Iterator[Any], parts: int) -> list[Any]:
        """Return the batches of the next step, `parts` of them; fewer where the epoch ends."""
        while len(self._waiting) <= self._steps:
            step = list(islice(batches, parts))
            if not step:
                break
            self._waiting.append(step)
        return self._waiting.popleft() if self._waiting else []

    @property
    def coming(self) -> list[list[Any]]:
        """Batches of each known step after the one that was taken last."""
        return list(self._waiting)
