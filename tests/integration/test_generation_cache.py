"""A data file that grew by some rows: the stages generate for those rows alone."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from raft_core.app.pipeline import STAGES
from raft_core.app.settings import Settings, load_settings
from raft_core.config.base import FrozenConfig
from raft_core.data.records import read_jsonl, write_jsonl
from raft_core.execution.execute import Execution, execute
from raft_core.execution.generations import Generations
from raft_core.execution.processes import StageProcesses
from raft_core.execution.slots import Slots
from raft_core.mini.world import domain_rows
from raft_core.refine.rewrite import Shard
from raft_core.store.artifacts import ArtifactRef, Store
from tests.integration.flow import small_profile

ROWS, ADDED = 60, 20
PRELOAD = "runtime.preload=[torch, transformers, sentence_transformers, faiss]"


@dataclass(frozen=True)
class Refinement:
    """The artifacts of one run up to the fusion, and what was asked of the models for them."""

    rewrites: dict[str, dict[str, Any]]
    lineage: dict[str, dict[str, Any]]
    generations: dict[str, dict[str, int]]
    files: dict[str, str]


def rows_of(count: int) -> list[dict[str, Any]]:
    """`count` training rows, and rows of the other splits, which stay the same."""
    rows = domain_rows("law")
    held_out = [row for s in ("validation", "test") for row in rows if row["split"] == s]
    return held_out[50:70] + [row for row in rows if row["split"] == "train"][:count]


def settings_for(folder: Path, *overrides: str) -> Settings:
    return load_settings(
        str(small_profile(folder)),
        overrides=[PRELOAD, *overrides],
        data=str(folder / "law.jsonl"),
    )


def refine(settings: Settings, processes: StageProcesses, store: Path) -> Refinement:
    generations = Generations()
    run = Execution(
        runtime=settings.runtime,
        store=Store(store),
        stages=STAGES,
        processes=processes,
        slots=Slots(),
        listeners=(generations,),
    )

    def made(stage: str, config: FrozenConfig, **inputs: ArtifactRef) -> ArtifactRef:
        return execute(run, STAGES[stage].spec(config, inputs, run.runtime)).artifact

    prepared = made("prepare", settings.prepare_stage())
    rewritten = made("rewrite", settings.rewrite_stage(Shard()), prepare=prepared)
    filtered = made("filter", settings.filter_stage(), prepare=prepared, rewrite=rewritten)
    fused = made("fuse", settings.fuse_stage(), prepare=prepared, filter=filtered)
    return Refinement(
        by_id(rewritten.folder / "rewrites.jsonl"),
        by_id(fused.folder / "lineage.jsonl"),
        generations.by_stage(),
        {path.name: path.read_text() for path in fused.folder.glob("*.jsonl")},
    )


def by_id(file: Path) -> dict[str, dict[str, Any]]:
    return {row["id"]: row for row in read_jsonl(file)}


def rounds(lineage: dict[str, dict[str, Any]], ids: set[str]) -> int:
    return sum(len(lineage[id]["candidates"]) for id in ids)


@pytest.fixture
def runs(tmp_path: Path) -> tuple[Refinement, Refinement, Refinement]:
    """Some rows, more rows, and these once more, generated without the cache."""
    store = tmp_path / "store"
    settings = settings_for(tmp_path)
    uncached = settings_for(tmp_path, "runtime.cache_generations=false")
    with StageProcesses(settings.runtime, STAGES) as processes:
        write_jsonl(tmp_path / "law.jsonl", rows_of(ROWS))
        before = refine(settings, processes, store)
        write_jsonl(tmp_path / "law.jsonl", rows_of(ROWS + ADDED))
        after = refine(settings, processes, store)
        for stage in ("rewrite", "fuse"):
            shutil.rmtree(store / "artifacts" / stage)
        return before, after, refine(uncached, processes, store)


@pytest.mark.timeout(900)
def test_grown_file_only_the_new_rows_are_generated_and_the_old_ones_stay(
    runs: tuple[Refinement, Refinement, Refinement],
) -> None:
    before, after, uncached = runs
    old, new = set(before.rewrites), set(after.rewrites) - set(before.rewrites)
    assert (len(old), len(new)) == (ROWS, ADDED)
    assert before.generations["rewrite"] == {"generated": ROWS, "cached": 0}
    assert after.generations["rewrite"] == {"generated": ADDED, "cached": ROWS}
    assert {id: after.rewrites[id] for id in old} == before.rewrites
    # A row is fused in up to three rounds; those of the old rows are found, round for round.
    assert rounds(after.lineage, new) > 0
    assert after.generations["fuse"] == {
        "generated": rounds(after.lineage, new),
        "cached": rounds(before.lineage, old),
    }
    assert {id: after.lineage[id] for id in old} == before.lineage
    assert uncached.generations["rewrite"] == {"generated": ROWS + ADDED, "cached": 0}
    assert uncached.rewrites == after.rewrites
    assert uncached.files == after.files
