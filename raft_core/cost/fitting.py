"""What will not fit: memory, contexts, disk, budgets, batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from raft_core.config.runtime import EndpointBudget
from raft_core.cost.distilling import batch_problem
from raft_core.cost.engine_cost import context_of
from raft_core.cost.memory import GIB
from raft_core.cost.models import known_model
from raft_core.cost.situation import Situation
from raft_core.cost.stage_cost import EndpointUse, StageCost
from raft_core.engines.base import OpenAIConfig, VllmConfig

# MLflow's copy of a checkpoint: README, "Reading the results".
TRACKED_BYTES = 2 * GIB
# Of a device: from here on a training may not fit, because allocators waste some (`memory`).
NEAR_SHARE = 0.85


def warnings_of(at: Situation, stages: Sequence[StageCost]) -> list[str]:
    """One line each, the gravest first."""
    missing = [stage for stage in stages if stage.runs]
    found = [
        *memory_warnings(at, missing),
        *engine_warnings(at),
        *context_warnings(at),
        *row_warnings(missing),
        *disk_warnings(at, missing),
        *budget_warnings(at, missing),
    ]
    problem = batch_problem(at.settings.distill, at.settings.runtime.training.processes)
    return list(dict.fromkeys([*([problem] if problem else []), *found]))


def memory_warnings(at: Situation, stages: Sequence[StageCost]) -> Iterator[str]:
    """Stages that need more than the device has, alone or beside each other."""
    total = at.device.memory
    needs = []
    for stage in stages:
        if stage.memory is None or stage.light:
            continue
        peak = stage.memory.peak
        needs.append(peak)
        if stage.stage == "distill" and NEAR_SHARE * total < peak <= total:
            yield (
                f"{stage.label} needs {peak / GIB:.1f} of {total / GIB:.1f} GiB, without what the "
                f"allocator wastes: it may not fit; {remedy(at, stage)}"
            )
        if peak > total:
            largest = sorted(stage.memory.parts.items(), key=lambda part: -part[1])[:3]
            parts = ", ".join(f"{name} {size / GIB:.1f}" for name, size in largest)
            yield (
                f"{stage.label} needs {peak / GIB:.1f} GiB, {at.device.machine.name} has "
                f"{total / GIB:.1f} ({parts}); {remedy(at, stage)}"
            )
    beside = sorted(needs)[-at.settings.runtime.parallel_stages :]
    if len(beside) > 1 and max(beside) <= total < sum(beside):
        yield (
            f"runtime.parallel_stages={at.settings.runtime.parallel_stages}: the largest stages "
            f"take {sum(beside) / GIB:.1f} GiB together, of {total / GIB:.1f}; run fewer at once"
        )


def remedy(at: Situation, stage: StageCost) -> str:
    """What may make a stage fit."""
    if stage.stage != "distill":
        if stage.details.get("engines", 1) > 1:
            return "its models are loaded together: judge by an endpoint, or lower their share"
        return "split the model (runtime.vllm.tensor_parallel_size) or take a smaller one"
    distill, found = at.settings.distill, []
    if not distill.gradient_checkpointing:
        found.append("distill.gradient_checkpointing=true")
    if distill.adapter is None:
        found.append("distill.adapter (LoRA)")
    found.append("more runtime.training.processes")
    if distill.batch_size // distill.gradient_accumulation > 1:
        found.append("more distill.gradient_accumulation")
    return "try " + ", ".join(found)


def engine_warnings(at: Situation) -> Iterator[str]:
    """Weights that leave an engine no room for its KV cache, or are larger than its share."""
    runtime = at.settings.runtime
    engines = {"engine": at.settings.engine, "fusion_engine": at.settings.fusion_engine}
    for name, config in engines.items():
        if not isinstance(config, VllmConfig) or at.device.kind != "cuda":
            continue
        weights = known_model(config.model).weight_bytes(config.dtype)
        share = runtime.vllm.gpu_memory_utilization * at.device.memory
        if weights is not None and weights / runtime.vllm.tensor_parallel_size > share:
            yield (
                f"{name}: the weights of {config.model.path} take {weights / GIB:.1f} GiB, the "
                f"share of a device (runtime.vllm.gpu_memory_utilization) is {share / GIB:.1f}; "
                "raise runtime.vllm.tensor_parallel_size"
            )


def context_warnings(at: Situation) -> Iterator[str]:
    """Lengths that a model was not made for."""
    settings, distill = at.settings, at.settings.distill
    for name, config in {
        "engine": settings.engine,
        "fusion_engine": settings.fusion_engine,
    }.items():
        if config is None or isinstance(config, OpenAIConfig):
            continue
        shape, limit = known_model(config.model).shape, context_of(config)
        if shape and limit and shape.positions and limit > shape.positions:
            yield (
                f"{name}.max_model_len={limit:,} is longer than the {shape.positions:,} positions "
                f"of {config.model.path}"
            )
    shape = at.base.shape
    read = distill.max_prompt_tokens + distill.max_answer_tokens
    teaches = any(method.samples for method in settings.methods.values())
    longest = read + (distill.rollout.max_tokens if teaches else 0)
    if shape and shape.positions and longest > shape.positions:
        yield (
            f"distill: up to {longest:,} tokens (max_prompt_tokens + max_answer_tokens"
            f"{' + rollout.max_tokens' if teaches else ''}) are more than the {shape.positions:,} "
            f"positions of {at.base.name}; only rows that long are hurt"
        )


def row_warnings(stages: Sequence[StageCost]) -> Iterator[str]:
    """Rows that are cut or left out."""
    for stage in stages:
        left, cut = stage.details.get("too_long", 0), stage.details.get("cut", 0)
        if round(left):
            yield f"{stage.label}: about {left:,.0f} prompts are too long and are left out"
        if round(cut):
            yield f"{stage.label}: about {cut:,.0f} answers are cut at distill.max_answer_tokens"


def disk_warnings(at: Situation, stages: Sequence[StageCost]) -> Iterator[str]:
    """Checkpoints against what is free below home."""
    need = disk_bytes(at, stages)
    if need > at.device.free_disk:
        yield (
            f"checkpoints need {need / GIB:.1f} GiB, {at.device.free_disk / GIB:.1f} are free "
            f"below {at.settings.runtime.home_folder}"
        )


def disk_bytes(at: Situation, stages: Sequence[StageCost]) -> float:
    """What stays, MLflow's copies of small checkpoints, and what running trainings hold at most."""
    kept = [stage.artifact_bytes for stage in stages]
    copies = sum(size for size in kept if size <= TRACKED_BYTES)
    scratch = sorted(stage.scratch_bytes for stage in stages)
    return sum(kept) + copies + sum(scratch[-at.settings.runtime.parallel_stages :])


def budget_warnings(at: Situation, stages: Sequence[StageCost]) -> Iterator[str]:
    """Budgets are a stage's (and a shard's): what each would spend of them."""
    for stage in stages:
        for name, uses in by_endpoint(stage).items():
            budget = at.settings.runtime.endpoints[name].budget
            yield from over_budget(stage, name, uses, budget)


def by_endpoint(stage: StageCost) -> dict[str, list[EndpointUse]]:
    """The uses of each endpoint: models behind one address share its budget."""
    grouped: dict[str, list[EndpointUse]] = {}
    for use in stage.endpoints:
        grouped.setdefault(use.endpoint, []).append(use)
    return grouped


def over_budget(
    stage: StageCost, name: str, uses: Sequence[EndpointUse], budget: EndpointBudget
) -> Iterator[str]:
    field = f"runtime.endpoints.{name}.budget"
    requests = sum(use.requests for use in uses) / stage.shards
    tokens = sum(use.prompt_tokens + use.tokens for use in uses) / stage.shards
    most = sum(use.prompt_tokens + use.most for use in uses) / stage.shards
    if budget.requests is not None and requests > budget.requests:
        yield f"{stage.label}: {requests:,.0f} requests, {field}.requests is {budget.requests:,}"
    if budget.tokens is not None and most > budget.tokens:
        word = "will take" if tokens > budget.tokens else "may take"
        yield (
            f"{stage.label}: {word} {tokens:,.0f} to {most:,.0f} tokens, {field}.tokens is "
            f"{budget.tokens:,}"
        )
