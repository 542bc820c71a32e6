"""Settings of the lineage."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from raft_core.config.base import FrozenConfig

VERSION = 1


class LineageConfig(FrozenConfig):
    """How many rows the page holds; the Parquet file always holds all."""

    page_rows: Annotated[int, Field(ge=100, le=20_000)] = Field(
        2_000, description="above it rows are drawn by seed, some of every status and reason"
    )
    seed: int = 0


class LineageStage(FrozenConfig):
    """Inputs: `prepare`, `filter`, and the shards `rewrite.NNNNN` and `fuse.NNNNN`."""

    domain: str
    lineage: LineageConfig = LineageConfig()
