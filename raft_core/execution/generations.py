"""What the stages of one flow run asked of their models: how much was generated, how much found."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

from raft_core.execution.listener import Listener
from raft_core.store.artifacts import StageSpec


class Generations(Listener):
    """The latest counts of every stage; stages note theirs from threads of their own."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._counts: dict[tuple[str, str], dict[str, int]] = {}

    def heard(self, label: str, spec: StageSpec, event: Mapping[str, Any]) -> None:
        """Keep a stage's counts so far, which an event of kind `generation` tells."""
        if event["kind"] != "generation":
            return
        with self._guard:
            self._counts[spec.stage, spec.key] = {
                name: event[name] for name in ("generated", "cached")
            }

    def by_stage(self) -> dict[str, dict[str, int]]:
        """Stage name -> requests `generated` and `cached`, all its shards and methods together."""
        totals: dict[str, dict[str, int]] = {}
        with self._guard:
            for (stage, _), counts in self._counts.items():
                known = totals.setdefault(stage, dict.fromkeys(counts, 0))
                totals[stage] = {name: known[name] + count for name, count in counts.items()}
        return totals
