"""Names and digests of whatever the stages' settings refer to."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from raft_core.config.base import FrozenConfig, ModelRef, fingerprint
from raft_core.data.sources import DataSource
from raft_core.engines.base import OpenAIConfig, TransformersConfig
from raft_core.errors import StageError
from raft_core.lineage.provenance import input_records, made_with
from raft_core.prompts import load_prompt
from raft_core.refine.fuse import FuseConfig, FuseStage
from raft_core.store.record import Record

COMMIT = "0123456789" * 4
PROMPTS = ("fuse.v1", "grade.v2")


def record(stage: str, config: FrozenConfig) -> Record:
    return Record(
        stage=stage, key="", version=1, identity=fingerprint(config),
        config=config.model_dump(mode="json"), inputs={}, read={}, files={}, seconds=0, created="",
        made_by={},
    )  # fmt: skip


def test_made_with_models_of_hub_and_endpoint_and_every_prompt() -> None:
    endpoint = OpenAIConfig(endpoint="judges", model="judge-120b", model_version="v2")
    judges = [{"kind": "coverage"}, {"kind": "llm", "generator": endpoint}]
    generator = TransformersConfig(model=ModelRef(path="org/fuser", revision=COMMIT))
    config = FuseStage(generator=generator, fuse=FuseConfig(judges=judges))
    found = made_with({"fuse.00000": record("fuse", config), "fuse.00001": record("fuse", config)})
    entries = [(e["kind"], e["role"], e["name"], e["digest"]) for e in found["fuse"]]
    prompts = {n: hashlib.sha256(load_prompt(n).text.encode()).hexdigest() for n in PROMPTS}
    assert entries == [
        ("model", "generator.model", "org/fuser", COMMIT),
        ("prompt", "fuse.prompt", "fuse.v1", prompts["fuse.v1"]),
        ("model", "fuse.judges.2.generator", "judge-120b", "v2"),
        ("prompt", "fuse.judges.2.prompt", "grade.v2", prompts["grade.v2"]),
    ]


def test_made_with_place_on_the_machine_is_not_told(tmp_path: Path) -> None:
    class Reading(FrozenConfig):
        data: DataSource

    file = tmp_path / "rows.jsonl"
    file.write_text("{}")
    (entry,) = made_with({"prepare": record("prepare", Reading(data=str(file)))})["prepare"]
    digest = hashlib.sha256(b"{}").hexdigest()
    assert (entry["kind"], entry["name"], entry["digest"]) == ("data", "rows.jsonl", digest)


def test_input_records_folder_without_a_record_stops(tmp_path: Path) -> None:
    with pytest.raises(StageError, match=r"input 'filter'.*record\.json"):
        input_records({"filter": tmp_path})
