"""Which rows the page shows where there are more than it holds."""

from __future__ import annotations

import hashlib
import heapq
from collections import defaultdict

Group = tuple[str, str | None]


class PageSample:
    """Rows drawn by a hash of seed and id, so that the order of the rows does not matter.

    Every group (status and reason) has an equal share; what a small one leaves goes to the larger
    ones. So rare reasons are shown whole, and of common ones as many as there is room for.
    """

    def __init__(self, most: int, seed: int) -> None:
        self._most, self._seed = most, seed
        self._seen: dict[Group, int] = defaultdict(int)
        self._lowest: dict[Group, list[tuple[int, int]]] = defaultdict(list)

    def add(self, index: int, row_id: str, group: Group) -> None:
        """A row at a position in the file; at most `most` of a group are remembered."""
        digest = hashlib.sha256(f"{self._seed}\0{row_id}".encode()).digest()
        entry = (-int.from_bytes(digest[:8], "big"), index)
        self._seen[group] += 1
        lowest = self._lowest[group]
        if len(lowest) < self._most:
            heapq.heappush(lowest, entry)
        else:
            heapq.heappushpop(lowest, entry)

    def indices(self) -> list[int]:
        """Positions of the chosen rows, in the order of the file."""
        chosen: list[int] = []
        groups = sorted(self._seen, key=lambda group: (self._seen[group], str(group)))
        for place, group in enumerate(groups):
            share = (self._most - len(chosen)) // (len(groups) - place)
            ranked = sorted(self._lowest[group], reverse=True)
            chosen += [index for _, index in ranked[:share]]
        return sorted(chosen)
