"""One cell of a study as one task: every stage that it needs, one after the other.

What cells share (a domain's refinement, a training that is measured twice) is computed by the
first that needs it; the others wait for its lock and find it in the store.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from prefect import task

from raft_core.artifacts import ArtifactRef, Stopwatch
from raft_core.config import FrozenConfig
from raft_core.records import read_jsonl
from raft_core.rewrite import shards_for
from raft_core.settings import Settings
from raft_core.study.config import BASE, Cell
from tasks.pipeline import STAGE_TASK, require_gate
from tasks.silent import SilentDisplay, SilentTracker
from tasks.stage import RunContext, artifact_of


@dataclass(frozen=True)
class Measured:
    """A cell's artifacts; the base has no training."""

    cell: Cell
    prepared: ArtifactRef
    evaluated: ArtifactRef
    trained: ArtifactRef | None


class Stages:
    """The stages of one cell, computed or found."""

    def __init__(self, context: RunContext, name: str) -> None:
        self._context, self._name = context, name

    @property
    def settings(self) -> Settings:
        return self._context.settings

    def run(
        self, stage: str, config: FrozenConfig, inputs: Mapping[str, ArtifactRef]
    ) -> ArtifactRef:
        found, _ = artifact_of(self._context, stage, config, inputs, f"{self._name} {stage}")
        return found

    def answers(self, prepared: ArtifactRef, targets: str) -> dict[str, ArtifactRef]:
        """What a method learns from, beside the prepared rows."""
        if targets == "raw":
            return {}
        rows = sum(1 for _ in read_jsonl(prepared.folder / "train.jsonl"))
        inputs = {"prepare": prepared}
        for shard in shards_for(rows, self.settings.rewrite.rows_per_shard):
            rewrite = self.run("rewrite", self.settings.rewrite_stage(shard), {"prepare": prepared})
            inputs[f"rewrite.{shard.index:05d}"] = rewrite
        filtered = self.run("filter", self.settings.filter_stage(), inputs)
        if targets == "rewritten":
            return {"filter": filtered}
        inputs = {"prepare": prepared, "filter": filtered}
        return {"fuse": self.run("fuse", self.settings.fuse_stage(), inputs)}

    def train(self, method: str, prepared: ArtifactRef) -> ArtifactRef:
        targets = self.settings.methods[method].targets
        inputs = {"prepare": prepared} | self.answers(prepared, targets)
        trained = self.run("distill", self.settings.distill_stage(method), inputs)
        prune = self.settings.prune_stage(method)
        return trained if prune is None else self.run("prune", prune, {"distill": trained})

    def score(self, prepared: ArtifactRef, trained: ArtifactRef | None) -> ArtifactRef:
        inputs = {"prepare": prepared} | ({} if trained is None else {"distill": trained})
        has_learned = trained is not None
        responses = self.run("respond", self.settings.respond_stage(trained=has_learned), inputs)
        inputs = {"prepare": prepared, "respond": responses}
        return self.run("evaluate", self.settings.evaluate_stage(trained=has_learned), inputs)


@task(name="cell", task_run_name="{label}", **STAGE_TASK)
def measure(context: RunContext, cell: Cell, label: str) -> Measured:
    """Train and score one cell under `context.settings`, whose only method is the cell's row."""
    watch = Stopwatch()
    silent = replace(context, display=SilentDisplay(), tracker=SilentTracker())
    with context.noting_failure():
        stages = Stages(silent, label)
        prepared = stages.run("prepare", context.settings.prepare_stage(), {})
        trained = None if cell.row == BASE else stages.train(cell.row, prepared)
        evaluated = stages.score(prepared, trained)
        if cell.row == BASE:
            require_gate(context.settings, evaluated)
    context.display.finished(label, watch.seconds)
    context.tracker.log_cell(label, tags_of(cell), parameters(context), evaluated, trained)
    return Measured(cell, prepared, evaluated, trained)


def tags_of(cell: Cell) -> dict[str, str]:
    return {f"raft.{name}": str(value) for name, value in cell.model_dump().items()}


def parameters(context: RunContext) -> dict[str, Any]:
    settings = context.settings.model_dump(mode="json")
    return {name: settings[name] for name in ("methods", "distill", "filter", "seed")}
