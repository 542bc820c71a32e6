"""Settings of the lineage."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from raft_core.config.base import FrozenConfig
from raft_core.execution.stage import Reads, Stage, StageConfig
from raft_core.store.record import RECORD


class LineageConfig(FrozenConfig):
    """How many rows the page holds; the Parquet file always holds all."""

    page_rows: Annotated[int, Field(ge=100, le=20_000)] = Field(
        2_000, description="above it rows are drawn by seed, some of every status and reason"
    )
    seed: int = 0


class LineageStage(StageConfig):
    """Inputs: `prepare`, `filter`, and of `rewrite` and `fuse` every shard."""

    domain: str
    lineage: LineageConfig = LineageConfig()

    def reads(self) -> Reads:
        return {
            "prepare": ("*.jsonl", "counts.json", RECORD),
            "rewrite": ("rewrites.jsonl", RECORD),
            "filter": ("filtered.jsonl", RECORD),
            "fuse": ("lineage.jsonl", "rejected.jsonl", RECORD),
        }


LINEAGE = Stage("lineage", 1, LineageStage, "raft_core.lineage.lineage", light=True)
