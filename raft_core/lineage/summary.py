"""What the page tells of all rows: how many each stage took in, kept and rejected, and why."""

from __future__ import annotations

from collections import Counter
from typing import Any

STAGES = ("prepare", "rewrite", "filter", "fuse")


class Summary:
    """Counts over the rows of the lineage, whatever the stages say of themselves."""

    def __init__(self) -> None:
        self.rows = 0
        self.dropped_texts_missing = 0
        self.statuses: Counter[str] = Counter()
        self.reasons: Counter[tuple[str, str]] = Counter()
        self._kept: Counter[str] = Counter()
        self._rejected: dict[str, Counter[str]] = {stage: Counter() for stage in STAGES}

    def add(self, row: dict[str, Any]) -> None:
        self.rows += 1
        self.statuses[row["status"]] += 1
        self.dropped_texts_missing += row["question"] is None
        if row["reason"]:
            self.reasons[row["decided_by"], row["reason"]] += 1
        self._count("prepare", row["prepare"]["kept"], row["prepare"]["reason"])
        if row["filter"] is not None:
            self._count("rewrite", row["rewrite"] is not None, "missing")
            self._count("filter", row["filter"]["passed"], row["filter"]["reason"])
        if row["fuse"] is not None:
            self._count("fuse", row["fuse"]["kept"], row["fuse"]["reason"])

    def _count(self, stage: str, kept: bool, reason: str | None) -> None:
        if kept:
            self._kept[stage] += 1
        else:
            self._rejected[stage][reason or "unknown"] += 1

    def stages(self) -> dict[str, dict[str, Any]]:
        """Stage -> `in`, `kept`, `rejected` (reason -> rows), as a stage's counts.json."""
        return {
            stage: {
                "in": self._kept[stage] + self._rejected[stage].total(),
                "kept": self._kept[stage],
                "rejected": dict(self._rejected[stage].most_common()),
            }
            for stage in STAGES
            if stage == STAGES[0] or self._kept[stage] or self._rejected[stage]
        }
