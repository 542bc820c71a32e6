"""One cell of a study as one task: every stage that it needs, one after the other.

What cells share (a domain's refinement, a training that is measured twice) is computed by the
first that needs it; the others wait for its lock and find it in the store.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from prefect import task

from raft_core.app.settings import Settings
from raft_core.config.base import FrozenConfig
from raft_core.data.records import read_jsonl
from raft_core.errors import UnwellError
from raft_core.evaluation.study.config import BASE, Cell
from raft_core.execution.shards import shards_for
from raft_core.store.artifacts import ArtifactRef, Stopwatch
from tasks.pipeline import (
    STAGE_TASK,
    filter_inputs,
    require_gate,
    respond_inputs,
    target_inputs,
)
from tasks.stage import RunContext, artifact_of


@dataclass(frozen=True)
class Measured:
    """A cell's artifacts; the base has no training. `trained` may be `training`, pruned."""

    cell: Cell
    evaluated: ArtifactRef
    training: ArtifactRef | None = None
    trained: ArtifactRef | None = None


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
        return artifact_of(self._context, stage, config, inputs, f"{self._name} {stage}").artifact

    def train(self, method: str, prepared: ArtifactRef) -> tuple[ArtifactRef, ArtifactRef]:
        """The method's training, and the model that it ends with, which may be pruned."""
        settings, targets = self.settings, self.settings.methods[method].targets
        filtered = None if targets == "raw" else self.filter(prepared)
        fused = None
        if filtered is not None and targets == "fused":
            inputs = {"prepare": prepared, "filter": filtered}
            fused = self.run("fuse", settings.fuse_stage(), inputs)
        inputs = target_inputs(targets, prepared, filtered, fused)
        training = self.run("distill", settings.distill_stage(method), inputs)
        prune = settings.prune_stage(method)
        if prune is None:
            return training, training
        return training, self.run("prune", prune, {"distill": training})

    def filter(self, prepared: ArtifactRef) -> ArtifactRef:
        """The domain's rewrites with the filter's verdicts."""
        rows = sum(1 for _ in read_jsonl(prepared.folder / "train.jsonl"))
        rewrites = [
            self.run("rewrite", self.settings.rewrite_stage(shard), {"prepare": prepared})
            for shard in shards_for(rows, self.settings.rewrite.rows_per_shard)
        ]
        inputs = filter_inputs(prepared, rewrites)
        return self.run("filter", self.settings.filter_stage(), inputs)

    def score(self, prepared: ArtifactRef, trained: ArtifactRef | None) -> ArtifactRef:
        learned = trained is not None
        responses = self.run(
            "respond",
            self.settings.respond_stage(trained=learned),
            respond_inputs(prepared, trained),
        )
        inputs = {"prepare": prepared, "respond": responses}
        return self.run("evaluate", self.settings.evaluate_stage(trained=learned), inputs)


@task(name="cell", task_run_name="{label}", **STAGE_TASK)
def measure(context: RunContext, cell: Cell, label: str) -> Measured:
    """Train and score one cell under `context.settings`, whose only method is the cell's row."""
    with context.noting_failure():
        return measured(context, cell, label)


@task(name="rate", task_run_name="{label}", **STAGE_TASK)
def measure_rate(context: RunContext, cell: Cell, label: str) -> Measured | None:
    """The same; None where the training ended itself, which says enough of a learning rate."""
    with context.noting_failure():
        try:
            return measured(context, cell, label)
        except UnwellError as unwell:
            context.tell("note", f"{label} is not chosen: {unwell}")
            return None


def measured(context: RunContext, cell: Cell, label: str) -> Measured:
    watch = Stopwatch()
    stages = Stages(context.quiet(), label)
    prepared = stages.run("prepare", context.settings.prepare_stage(), {})
    training, trained = (None, None)
    if cell.row != BASE:
        training, trained = stages.train(cell.row, prepared)
    evaluated = stages.score(prepared, trained)
    if cell.row == BASE:
        require_gate(context.settings, evaluated)
    context.terminal.finished(label, watch.seconds)
    context.tracker.log_cell(label, tags_of(cell), parameters(context), evaluated, trained)
    return Measured(cell, evaluated, training, trained)


def tags_of(cell: Cell) -> dict[str, str]:
    return {f"raft.{name}": str(value) for name, value in cell.model_dump().items()}


def parameters(context: RunContext) -> dict[str, Any]:
    settings = context.settings.model_dump(mode="json")
    return {name: settings[name] for name in ("methods", "distill", "filter", "seed")}
