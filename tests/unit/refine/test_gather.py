from __future__ import annotations

import json
from pathlib import Path

from raft_core.app.settings import load_settings
from raft_core.config.base import fingerprint
from raft_core.config.runtime import RuntimeConfig
from raft_core.data.records import read_jsonl, write_jsonl
from raft_core.execution.inputs import Inputs
from raft_core.execution.progress import Progress
from raft_core.execution.shards import Shard, shards_for
from raft_core.execution.stage import StageRun
from raft_core.refine import gather
from raft_core.refine.gather import GatherStage

IDS = list("abcdefg")


def test_gather_rows_of_all_shards_in_the_order_of_training(tmp_path: Path) -> None:
    inputs = {"prepare": tmp_path / "prepare"}
    inputs["prepare"].mkdir()
    write_jsonl(inputs["prepare"] / "train.jsonl", ({"id": i} for i in IDS))
    for shard in shards_for(len(IDS), 3):
        folder = inputs[f"fuse.{shard.index:05d}"] = tmp_path / str(shard.index)
        folder.mkdir()
        mine = shard.rows(IDS)
        write_jsonl(folder / "fused.jsonl", ({"id": i, "answer": f"{i}!"} for i in mine))
        write_jsonl(folder / "lineage.jsonl", ({"id": i, "round": 0} for i in mine))
        rejected = ({"id": i, "stage": "fuse", "reason": "keeps_reference"} for i in mine[:1])
        write_jsonl(folder / "rejected.jsonl", rejected)
    out = tmp_path / "out"
    out.mkdir()
    gather.run(StageRun(GatherStage(), Inputs(inputs), out, out, RuntimeConfig(), Progress(None)))

    assert [row["id"] for row in read_jsonl(out / "fused.jsonl")] == IDS
    assert [row["id"] for row in read_jsonl(out / "lineage.jsonl")] == IDS
    assert [row["id"] for row in read_jsonl(out / "rejected.jsonl")] == ["a", "b", "c"]
    counts = json.loads((out / "counts.json").read_text())
    assert counts == {"in": 7, "kept": 4, "rejected": {"keeps_reference": 3}}


def test_shards_every_row_is_in_one_of_them() -> None:
    shards = shards_for(100, 30)
    assert len(shards) == 4
    assert sorted(row for shard in shards for row in shard.rows(range(100))) == list(range(100))


def test_fuse_one_shard_of_all_rows_has_the_identity_of_no_shard() -> None:
    settings = load_settings("mini", "law")
    whole = fingerprint(settings.fuse_stage())
    assert "shard" not in whole
    parts = [fingerprint(settings.fuse_stage(Shard(index=i, of=2))) for i in range(2)]
    assert parts[0] != parts[1]
    assert whole not in parts
