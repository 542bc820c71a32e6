"""The stages as Prefect tasks: wiring only."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.futures import wait
from prefect.states import State

from raft_core.app.settings import Settings
from raft_core.data.records import read_jsonl
from raft_core.distill.config import PruneStage, Targets
from raft_core.evaluation.gate import require_readable
from raft_core.execution.shards import WHOLE, Shard, shards_for
from raft_core.refine.gather import SHARD, GatherStage
from raft_core.store.artifacts import ArtifactRef
from tasks.stage import RunContext, run_stage

BASE = "base"
# The store is the cache: see raft_core/execution/execute.py.
STAGE_TASK: dict[str, Any] = {"cache_policy": NO_CACHE, "persist_result": False}


@task(name="prepare", **STAGE_TASK)
def prepare(context: RunContext) -> State:
    return run_stage(context, "prepare", context.settings.prepare_stage(), {})


@task(name="rewrite", task_run_name="{label}", **STAGE_TASK)
def rewrite_shard(context: RunContext, prepared: ArtifactRef, shard: Shard, label: str) -> State:
    config = context.settings.rewrite_stage(shard)
    return run_stage(context, "rewrite", config, {"prepare": prepared}, label)


def rewrite(context: RunContext, prepared: ArtifactRef) -> list[Any]:
    """All shards of the training rows, as futures."""
    shards = labelled_shards(context, prepared, "rewrite")
    return [rewrite_shard.submit(context, prepared, s, label) for label, s in shards.items()]


def labelled_shards(context: RunContext, prepared: ArtifactRef, stage: str) -> dict[str, Shard]:
    """The shards of the training rows by what people call them."""
    rows = sum(1 for _ in read_jsonl(prepared.folder / "train.jsonl"))
    shards = shards_for(rows, context.settings.rewrite.rows_per_shard)
    return {
        stage if shard.is_whole else f"{stage} {shard.index + 1}/{shard.of}": shard
        for shard in shards
    }


@task(name="embed", task_run_name="{label}", **STAGE_TASK)
def embed(
    context: RunContext, prepared: ArtifactRef, rewritten: Any, shard: Shard, label: str
) -> State:
    """Vectors of all references, or of a shard's rewrites, into this machine's cache."""
    inputs = {"prepare": prepared} | ({} if rewritten is None else {"rewrite": rewritten})
    return run_stage(context, "embed", context.settings.embed_stage(shard), inputs, label)


def embed_ahead(context: RunContext, prepared: ArtifactRef, rewrites: Sequence[Any]) -> list[Any]:
    """What the filter compares is embedded as it comes, in a few stages at a time (as futures)."""
    if not embeds_ahead(context.settings) or context.runtime.task_runner == "ray":
        return []
    asked = [(None, WHOLE, "embed references")] + [
        (rewritten, shard, label)
        for rewritten, (label, shard) in zip(
            rewrites, labelled_shards(context, prepared, "embed").items(), strict=True
        )
    ]
    futures: list[Any] = []
    for place, (rewritten, shard, label) in enumerate(asked):
        first = place - context.runtime.parallel_stages
        before = futures[first : first + 1] if first >= 0 else []
        futures.append(embed.submit(context, prepared, rewritten, shard, label, wait_for=before))
    return futures


def embeds_ahead(settings: Settings) -> bool:
    """Whether it pays: on CPU cores that write, another process would only take turns."""
    runtime = settings.runtime
    if runtime.embed_ahead is None:
        writes_elsewhere = runtime.device != "cpu" or settings.engine.kind == "openai"
        return runtime.cache_embeddings and writes_elsewhere
    return runtime.embed_ahead and runtime.cache_embeddings


@task(name="filter", **STAGE_TASK)
def filter_rewrites(
    context: RunContext, prepared: ArtifactRef, rewrites: list[ArtifactRef]
) -> State:
    inputs = filter_inputs(prepared, rewrites)
    return run_stage(context, "filter", context.settings.filter_stage(), inputs)


def filter_inputs(prepared: ArtifactRef, rewrites: Sequence[ArtifactRef]) -> dict[str, ArtifactRef]:
    """The shards of the rewrites in their order."""
    shards = {f"rewrite.{number:05d}": shard for number, shard in enumerate(rewrites)}
    return {"prepare": prepared} | shards


@task(name="fuse", task_run_name="{label}", **STAGE_TASK)
def fuse_shard(
    context: RunContext, prepared: ArtifactRef, filtered: ArtifactRef, shard: Shard, label: str
) -> State:
    inputs = {"prepare": prepared, "filter": filtered}
    return run_stage(context, "fuse", context.settings.fuse_stage(shard), inputs, label)


def fuse(context: RunContext, prepared: ArtifactRef, filtered: Any) -> list[Any]:
    """All shards of the fused answers, as futures."""
    shards = labelled_shards(context, prepared, "fuse")
    return [
        fuse_shard.submit(context, prepared, filtered, shard, label)
        for label, shard in shards.items()
    ]


@task(name="gather", **STAGE_TASK)
def gather(context: RunContext, prepared: ArtifactRef, parts: list[ArtifactRef]) -> State:
    """The shards of the fusion as one artifact."""
    shards = {f"{SHARD}{number:05d}": part for number, part in enumerate(parts)}
    return run_stage(context, "gather", GatherStage(), {"prepare": prepared} | shards)


@task(name="distill", task_run_name="distill {name}", **STAGE_TASK)
def distill(context: RunContext, name: str, method: str, inputs: dict[str, ArtifactRef]) -> State:
    """Train one method on the answers that it learns."""
    config = context.settings.distill_stage(method)
    return run_stage(context, "distill", config, inputs, f"distill {name}")


@task(name="prune", task_run_name="prune {name}", **STAGE_TASK)
def prune(context: RunContext, name: str, config: PruneStage, trained: ArtifactRef) -> State:
    return run_stage(context, "prune", config, {"distill": trained}, f"prune {name}")


@dataclass(frozen=True)
class Refined:
    """Futures of the data stages: what the methods learn from."""

    prepared: ArtifactRef
    rewrites: list[Any]
    filtered: Any
    fusions: list[Any]
    fused: Any


def tell_overlap(context: RunContext) -> None:
    """Say at the start of a run which judges had a part in what they judge."""
    for warning in context.settings.panel_warnings():
        context.tell("note", f"Note: {warning}.")


def refine(context: RunContext) -> Refined:
    """Prepare, rewrite, filter and fuse one domain's rows."""
    prepared = prepare.submit(context).result()
    rewrites = rewrite(context, prepared)
    ahead = embed_ahead(context, prepared, rewrites)
    filtered = filter_rewrites.submit(context, prepared, rewrites, wait_for=ahead)
    fusions = fuse(context, prepared, filtered)
    fused = fusions[0] if len(fusions) == 1 else gather.submit(context, prepared, fusions)
    return Refined(prepared, rewrites, filtered, fusions, fused)


@task(name="lineage", **STAGE_TASK)
def lineage(context: RunContext, inputs: dict[str, ArtifactRef]) -> State:
    return run_stage(context, "lineage", context.settings.lineage_stage(), inputs)


def tell_lineage(context: RunContext, refined: Refined) -> Any:
    """What became of every row, as a table and a page (as a future)."""
    inputs = filter_inputs(refined.prepared, refined.rewrites) | {"filter": refined.filtered}
    inputs |= {f"{SHARD}{number:05d}": shard for number, shard in enumerate(refined.fusions)}
    return lineage.submit(context, inputs)


def train(
    context: RunContext, name: str, method: str, refined: Refined, wait_for: Sequence[Any] = ()
) -> Any:
    """A method's checkpoint (as a future), pruned where the method wants it."""
    targets = context.settings.methods[method].targets
    inputs = target_inputs(targets, refined.prepared, refined.filtered, refined.fused)
    trained = distill.submit(context, name, method, inputs, wait_for=list(wait_for))
    config = context.settings.prune_stage(method)
    return trained if config is None else prune.submit(context, name, config, trained)


def target_inputs(
    targets: Targets, prepared: ArtifactRef, filtered: Any, fused: Any
) -> dict[str, Any]:
    """What a method learns from: artifacts or their futures, and none that it does not need."""
    answers = {"raw": {}, "rewritten": {"filter": filtered}, "fused": {"fuse": fused}}
    return {"prepare": prepared} | answers[targets]


def respond_inputs(prepared: ArtifactRef, trained: ArtifactRef | None) -> dict[str, ArtifactRef]:
    return {"prepare": prepared} | ({} if trained is None else {"distill": trained})


@task(name="respond", task_run_name="respond {name}", **STAGE_TASK)
def respond(
    context: RunContext, name: str, prepared: ArtifactRef, trained: ArtifactRef | None = None
) -> State:
    """A trained model, or the base, answers the benchmarks."""
    inputs = respond_inputs(prepared, trained)
    config = context.settings.respond_stage(trained=trained is not None)
    return run_stage(context, "respond", config, inputs, f"respond {name}")


@task(name="evaluate", task_run_name="evaluate {name}", **STAGE_TASK)
def evaluate(
    context: RunContext, name: str, prepared: ArtifactRef, responses: ArtifactRef
) -> State:
    inputs = {"prepare": prepared, "respond": responses}
    config = context.settings.evaluate_stage(trained=name != BASE)
    return run_stage(context, "evaluate", config, inputs, f"evaluate {name}")


def evaluate_model(context: RunContext, name: str, prepared: Any, trained: Any = None) -> Any:
    """A model's answers to the benchmarks, and their scores (as a future)."""
    responses = respond.submit(context, name, prepared, trained)
    return evaluate.submit(context, name, prepared, responses)


@task(name="gate", **STAGE_TASK)
def gate(context: RunContext, evaluated: ArtifactRef) -> float:
    """The base's score under the teacher's template; a GateError below the threshold."""
    with context.noting_failure():
        return require_gate(context.settings, evaluated)


def require_gate(settings: Settings, evaluated: ArtifactRef) -> float:
    """The base's score under the teacher's template, if it is high enough."""
    scores = json.loads((evaluated.folder / "scores.json").read_text())
    return require_readable(scores, settings.gate, settings.base.path)


@task(name="report", **STAGE_TASK)
def report(context: RunContext, inputs: dict[str, ArtifactRef]) -> State:
    return run_stage(context, "report", context.settings.report_stage(), inputs)


@task(name="promote", **STAGE_TASK)
def promote(context: RunContext, inputs: dict[str, ArtifactRef]) -> State:
    """Whether the challenger may replace the champion."""
    return run_stage(context, "promote", context.settings.promote_stage(), inputs)


def finished(context: RunContext, submitted: dict[str, Any]) -> dict[str, ArtifactRef]:
    """All artifacts, once every stage has ended; the first failure is raised instead."""
    futures = {name: f for name, f in submitted.items() if not isinstance(f, ArtifactRef)}
    wait(list(futures.values()))
    if context.failures:
        raise context.failures[0]
    return submitted | {name: future.result() for name, future in futures.items()}
