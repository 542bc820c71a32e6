"""Stage `gather`: the shards of a fusion as one artifact, its rows in the order of training."""

from __future__ import annotations

from typing import Any

from raft_core.config import FrozenConfig
from raft_core.records import Rejection, read_jsonl, write_jsonl
from raft_core.stage import StageRun

VERSION = 1
SHARD = "fuse."


class GatherStage(FrozenConfig):
    """Nothing decides the result but its inputs: `prepare` and the shards, `fuse.NNNNN`."""


def run(stage: StageRun) -> None:
    """Writes what `fuse` writes for all rows at once."""
    shards = [folder for name, folder in stage.inputs.items() if name.startswith(SHARD)]
    order = {
        row["id"]: place
        for place, row in enumerate(read_jsonl(stage.inputs["prepare"] / "train.jsonl"))
    }

    def gathered(name: str) -> list[dict[str, Any]]:
        rows = [row for folder in shards for row in read_jsonl(folder / name)]
        return sorted(rows, key=lambda row: order[row["id"]])

    fused = gathered("fused.jsonl")
    write_jsonl(stage.out / "fused.jsonl", fused)
    write_jsonl(stage.out / "lineage.jsonl", gathered("lineage.jsonl"))
    rejected = [Rejection(**row) for row in gathered("rejected.jsonl")]
    stage.account(len(order), len(fused) - len(rejected), rejected)
