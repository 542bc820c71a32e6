"""One cell of a study as one task: every stage that it needs, without a task of its own.

What cells share (a domain's refinement, a training that is measured twice) is computed by the
first that needs it; the others wait for its lock and find it in the store.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from prefect import task

from raft_core.app.pipeline import evaluate, prepare_node, refine, train, training_rows
from raft_core.app.settings import Settings
from raft_core.errors import UnwellError
from raft_core.evaluation.study.config import BASE, Cell
from raft_core.execution.graph import run_graph
from raft_core.store.artifacts import ArtifactRef, Stopwatch
from tasks.pipeline import STAGE_TASK
from tasks.run_context import RunContext


@dataclass(frozen=True)
class Measured:
    """A cell's artifacts; the base has no training. `trained` may be `training`, pruned."""

    cell: Cell
    evaluated: ArtifactRef
    training: ArtifactRef | None = None
    trained: ArtifactRef | None = None


@task(name="cell", task_run_name="{label}", **STAGE_TASK)
def measure(context: RunContext, settings: Settings, cell: Cell, label: str) -> Measured:
    """Train and score one cell under these settings, whose only method is the cell's row."""
    with context.noting_failure():
        return measured(context, settings, cell, label)


@task(name="rate", task_run_name="{label}", **STAGE_TASK)
def measure_rate(
    context: RunContext, settings: Settings, cell: Cell, label: str
) -> Measured | None:
    """Measure a cell like `measure`; None if its training stopped itself: no rate to choose."""
    with context.noting_failure():
        try:
            return measured(context, settings, cell, label)
        except UnwellError as unwell:
            context.tell("note", f"{label} is not chosen: {unwell}")
            return None


def measured(context: RunContext, settings: Settings, cell: Cell, label: str) -> Measured:
    """Run the cell's slice of the pipeline, and log it as one run.

    Raises:
        RaftError: a stage failed.
    """
    watch, quiet, prepare = Stopwatch(), context.quiet(), prepare_node(settings)
    made = run_graph(quiet, [prepare], prefix=label)
    trained = None
    if cell.row != BASE:
        refined = refine(settings, prepare, training_rows(made[prepare]))
        trained = train(settings, cell.row, refined)
    evaluated = evaluate(settings, cell.row, prepare, trained)
    made = run_graph(quiet, [evaluated], made, prefix=label)
    training = None if trained is None else trained.inputs.get("distill", trained)
    context.terminal.finished(label, watch.seconds)
    found = Measured(
        cell,
        made[evaluated],
        None if training is None else made[training],  # type: ignore[index]
        None if trained is None else made[trained],
    )
    context.tracker.log_cell(
        label, tags_of(cell), parameters(settings), found.evaluated, found.trained
    )
    return found


def tags_of(cell: Cell) -> dict[str, str]:
    """Return what a cell's run is found by."""
    return {f"raft.{name}": str(value) for name, value in cell.model_dump().items()}


def parameters(settings: Settings) -> dict[str, Any]:
    """Return the settings in which cells differ."""
    values = settings.model_dump(mode="json")
    return {name: values[name] for name in ("methods", "distill", "filter", "seed")}
