"""Rates of earlier stages, from the records of a store."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from raft_core.app.pipeline import STAGES
from raft_core.app.settings import load_settings
from raft_core.cost.cached import is_kept, records_of
from raft_core.cost.history import History, slowest
from raft_core.data.records import write_jsonl
from raft_core.execution.shards import WHOLE
from raft_core.execution.stage import StageConfig
from raft_core.store.artifacts import ArtifactRef, Store

SETTINGS = load_settings("mini", "law")
PREPARED = ArtifactRef(stage="prepare", key="0" * 24, path="nowhere")


def inputs_of(config: StageConfig) -> dict[str, ArtifactRef]:
    return dict.fromkeys(config.reads(), PREPARED)


def commit(
    root: Path, stage: str, config: StageConfig, seconds: float, **files: list[dict[str, Any]]
) -> None:
    """An artifact with these JSONL files, as if it had taken so many seconds."""
    store = Store(root)
    spec = STAGES[stage].spec(config, inputs_of(config), SETTINGS.runtime)
    work = store.work_folder(spec)
    for name, rows in files.items():
        write_jsonl(work / "out" / f"{name}.jsonl", rows)
    if stage == "distill":
        (work / "out" / "summary.json").write_text('{"steps": 10}')
    store.commit(spec, work, seconds)


def test_rewrites_tell_tokens_a_second_without_the_start(tmp_path: Path) -> None:
    rows = [{"tokens": 30}, {"tokens": 50}]
    commit(tmp_path, "rewrite", SETTINGS.rewrite_stage(WHOLE), 6.0, rewrites=rows)
    history = History(tmp_path)
    rate = history.tokens("rewrite", SETTINGS.engine, start=4.0)
    assert rate is not None
    assert (rate.per_second, rate.stages) == (40, 1)
    assert history.length("rewrite", SETTINGS.engine, SETTINGS.rewrite.sampling) == 40


def test_rewrites_of_another_model_tell_nothing(tmp_path: Path) -> None:
    commit(tmp_path, "rewrite", SETTINGS.rewrite_stage(WHOLE), 6.0, rewrites=[{"tokens": 30}])
    history = History(tmp_path)
    assert history.tokens("rewrite", SETTINGS.fusion_engine, start=4.0) is None
    hotter = SETTINGS.rewrite.sampling.model_copy(update={"temperature": 1.0})
    assert history.length("rewrite", SETTINGS.engine, hotter) is None


def test_training_alike_but_for_its_rate_tells_rows_a_second(tmp_path: Path) -> None:
    curves = [{"rollout_tokens": 12.0}, {"rollout_tokens": 14.0}]
    commit(tmp_path, "distill", SETTINGS.distill_stage("raft"), 26.0, curves=curves)
    other = load_settings("mini", "law", ["methods.raft.learning_rate=1e-4", "distill.epochs=1"])
    rate = History(tmp_path).visits(other.distill_stage("raft"), start=6.0)
    assert rate is not None
    assert rate.per_second == 8  # 10 steps of 16 rows in 20 s
    assert History(tmp_path).rollout_length(other.distill_stage("raft")) == 13


@pytest.mark.parametrize("override", ["distill.batch_size=8", "distill.rollout.max_tokens=8"])
def test_training_of_another_kind_tells_nothing(tmp_path: Path, override: str) -> None:
    commit(tmp_path, "distill", SETTINGS.distill_stage("raft"), 26.0, curves=[])
    other = load_settings("mini", "law", [override])
    assert History(tmp_path).visits(other.distill_stage("raft"), start=6.0) is None
    assert History(tmp_path).visits(other.distill_stage("sft_raw"), start=6.0) is None


def test_fusions_tell_rounds(tmp_path: Path) -> None:
    lineage = [{"candidates": [1]}, {"candidates": [1, 2, 3]}, {"candidates": []}]
    commit(tmp_path, "fuse", SETTINGS.fuse_stage(), 9.0, lineage=lineage)
    assert History(tmp_path).rounds(SETTINGS.fuse) == [1, 3]
    rate = History(tmp_path).fusions(SETTINGS.fuse, start=7.0)
    assert rate is not None
    assert rate.per_second == 2


def test_slowest_rate_stands() -> None:
    # 10 a second, and 100 a second because completions were found
    rate = slowest([(100, 10.0), (1000, 10.0)], start=0.0)
    assert rate is not None
    assert (rate.per_second, rate.stages) == (10, 2)
    assert slowest([(0, 10.0)], start=0.0) is None


def test_rate_of_a_stage_shorter_than_its_start_counts_a_fifth_of_it() -> None:
    rate = slowest([(10, 5.0)], start=8.0)
    assert rate is not None
    assert rate.per_second == 10


def test_store_without_the_stage_is_no_history(tmp_path: Path) -> None:
    history = History(tmp_path)
    assert history.rows("filter", 1.0) is None
    assert history.seconds("report") is None
    assert records_of(tmp_path, "filter") == []


def test_kept_artifact_needs_its_files(tmp_path: Path) -> None:
    config = SETTINGS.rewrite_stage(WHOLE)
    commit(tmp_path, "rewrite", config, 6.0, rewrites=[{"tokens": 30}])
    spec = STAGES["rewrite"].spec(config, inputs_of(config), SETTINGS.runtime)
    assert is_kept(tmp_path, spec)
    next(tmp_path.glob("artifacts/rewrite/*/rewrites.jsonl")).unlink()
    assert not is_kept(tmp_path, spec)
