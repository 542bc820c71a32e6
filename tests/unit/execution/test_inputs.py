"""Inputs by name, and the parts of artifacts that a stage sees."""

from __future__ import annotations

from pathlib import Path

import pytest

from raft_core.config.runtime import RuntimeConfig
from raft_core.execution.inputs import Inputs, flat, linked
from raft_core.refine.gather import GATHER, GatherStage
from raft_core.store.artifacts import ArtifactRef


def test_flat_shards_keep_their_order_and_names_their_names() -> None:
    given = {"prepare": 1, "fuse": [2, 3], "evaluate": {"base": 4, "raft": 5}}
    assert flat(given) == {
        "prepare": 1,
        "fuse.00000": 2,
        "fuse.00001": 3,
        "evaluate.base": 4,
        "evaluate.raft": 5,
    }


def test_inputs_of_one_name_are_found_together() -> None:
    names = ("fuse.00001", "fuse.00000", "fused", "evaluate.x.today", "prepare")
    inputs = Inputs({name: Path(name) for name in names})
    assert inputs.all("fuse") == [Path("fuse.00000"), Path("fuse.00001")]
    assert inputs.all("prepare") == [Path("prepare")]
    assert inputs.all("rewrite") == []
    assert inputs.named("evaluate") == {"x.today": Path("evaluate.x.today")}


def test_linked_shows_the_declared_parts_alone(tmp_path: Path) -> None:
    artifact = tmp_path / "artifact"
    (artifact / "checkpoint").mkdir(parents=True)
    for name in ("train.jsonl", "test.jsonl", "checkpoint/model.safetensors", "record.json"):
        (artifact / name).write_text(name)
    (tmp_path / "view" / "old").mkdir(parents=True)
    seen = linked(artifact, ("train.jsonl", "checkpoint/*"), tmp_path / "view")
    files = {p.relative_to(seen).as_posix() for p in seen.rglob("*") if p.is_file()}
    assert files == {"train.jsonl", "checkpoint/model.safetensors"}
    assert (seen / "train.jsonl").read_text() == "train.jsonl"
    whole = linked(artifact, ("*", "record.json"), tmp_path / "view")
    assert (whole / "record.json").is_file()


def test_spec_of_an_input_that_the_stage_does_not_declare_is_refused() -> None:
    stray = ArtifactRef(stage="filter", key="k", path="/none")
    with pytest.raises(TypeError, match="stage gather reads no filter"):
        GATHER.spec(GatherStage(), {"filter": stray}, RuntimeConfig())
