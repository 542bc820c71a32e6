"""Stages with real models: forked from the server they make the same files, byte for byte."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from raft_core.app.pipeline import STAGES
from raft_core.app.settings import Settings, load_settings
from raft_core.config.base import FrozenConfig, digest_file
from raft_core.execution.processes import StageProcesses
from raft_core.execution.shards import Shard
from raft_core.store.artifacts import ArtifactRef, StageSpec

PLAIN = "runtime.preload=[]"


def run_stages(settings: Settings, home: Path) -> dict[str, dict[str, str]]:
    """Digests of the files of three stages: an encoder's, vLLM's, and the trainer's."""
    stages: Sequence[tuple[str, FrozenConfig]] = (
        ("prepare", settings.prepare_stage()),
        ("rewrite", settings.rewrite_stage(Shard())),
        ("distill", settings.distill_stage("sft_raw")),
    )
    digests: dict[str, dict[str, str]] = {}
    inputs: dict[str, ArtifactRef] = {}
    with StageProcesses(settings.runtime) as processes:
        for name, config in stages:
            spec = STAGES[name].spec(config, inputs, settings.runtime)
            out = run(processes, spec, home / name)
            inputs = inputs or {name: ArtifactRef(stage=name, key=spec.key, path=str(out))}
            digests[name] = {
                path.relative_to(out).as_posix(): digest_file(path)
                for path in out.rglob("*")
                if path.is_file()
            }
    return digests


def run(processes: StageProcesses, spec: StageSpec, work: Path) -> Path:
    work.mkdir(parents=True)
    (work / "spec.json").write_text(spec.model_dump_json())
    code = processes.start(spec, work, work / "log.txt").wait()
    assert code == 0, (work / "log.txt").read_text()
    return work / "out"


@pytest.mark.timeout(600)
def test_forked_stages_write_what_plain_ones_write(tmp_path: Path) -> None:
    small = ["distill.epochs=0.5"]
    small.append("runtime.cache_generations=false")  # or the second would find the first's answers
    forked = load_settings("mini", "law", small, limit=150)
    plain = load_settings("mini", "law", [*small, PLAIN], limit=150)
    assert forked.runtime.forks_stages
    assert not plain.runtime.forks_stages
    made = run_stages(forked, tmp_path / "forked")
    assert made == run_stages(plain, tmp_path / "plain")
    assert "rewrites.jsonl" in made["rewrite"]
    assert any(name.endswith(".safetensors") for name in made["distill"])
