"""Stage `gather`: the shards of a fusion as one artifact, its rows in the order of training."""

from __future__ import annotations

from collections.abc import Iterator
from heapq import merge
from typing import Any

from raft_core.data.records import Rejection, read_jsonl, write_jsonl
from raft_core.execution.stage import Reads, Stage, StageConfig, StageRun


class GatherStage(StageConfig):
    """Nothing decides the result but its inputs: `prepare`, and of `fuse` every shard."""

    def reads(self) -> Reads:
        return {
            "prepare": ("train.jsonl",),
            "fuse": ("fused.jsonl", "lineage.jsonl", "rejected.jsonl"),
        }


GATHER = Stage("gather", 1, GatherStage, "raft_core.refine.gather")


def run(stage: StageRun) -> None:
    """Writes what `fuse` writes for all rows at once."""
    shards = stage.inputs.all("fuse")
    order = {
        row["id"]: place
        for place, row in enumerate(read_jsonl(stage.inputs["prepare"] / "train.jsonl"))
    }

    def gathered(name: str) -> Iterator[dict[str, Any]]:
        """A shard's rows are in order already, so that one row of each is held."""
        return merge(
            *(read_jsonl(folder / name) for folder in shards), key=lambda row: order[row["id"]]
        )

    fused = write_jsonl(stage.out / "fused.jsonl", gathered("fused.jsonl"))
    write_jsonl(stage.out / "lineage.jsonl", gathered("lineage.jsonl"))
    rejected = [Rejection(**row) for row in gathered("rejected.jsonl")]
    stage.account(len(order), fused - len(rejected), rejected)
