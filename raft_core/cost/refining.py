"""What the data stages would take: prepare, rewrite, filter, fuse, gather, lineage."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from raft_core.cost.engine_cost import (
    EngineCost,
    context_of,
    engine_cost,
    side_by_side,
    start_seconds,
)
from raft_core.cost.history import Rate
from raft_core.cost.models import known_model
from raft_core.cost.rates import LIGHT_SECONDS
from raft_core.cost.requests import Asked, fusing, grading, mean_rounds, rewriting
from raft_core.cost.situation import Situation
from raft_core.cost.stage_cost import StageCost
from raft_core.engines.base import GeneratorConfig, OpenAIConfig
from raft_core.execution.shards import shards_for
from raft_core.refine.grading import LlmScorer


def refining_costs(at: Situation, found: int) -> list[StageCost]:
    """In the flow's order; `found` rewrites are in the cache of completions."""
    rows = len(at.rows.train)
    shards = len(shards_for(rows, at.settings.rewrite.rows_per_shard))
    costs = [
        row_stage(at, "prepare", at.rows.read),
        rewrite_cost(at, shards, found),
        row_stage(at, "filter", rows, ("rewrite",)),
        fuse_cost(at, shards),
    ]
    if shards > 1:
        costs.append(StageCost("gather", "gather", ("fuse",), rows, seconds=LIGHT_SECONDS))
    fused = costs[-1].label
    seconds = at.history.seconds("lineage") or LIGHT_SECONDS
    costs.append(StageCost("lineage", "lineage", (fused,), rows, seconds=seconds, light=True))
    return costs


def row_stage(
    at: Situation, stage: str, rows: float, after: tuple[str, ...] = (), label: str = ""
) -> StageCost:
    """A stage that reads rows and embeds or compares them."""
    rate = at.history.rows(stage, at.machine.start)
    per_second = rate.per_second if rate else at.machine.rows
    told = rate.told("rows") if rate else f"{at.machine.rows:g} rows/s, {at.machine.name}"
    seconds = at.machine.start + rows / per_second
    return StageCost(label or stage, stage, after, rows, seconds=seconds, rate=told)


def rewrite_cost(at: Situation, shards: int, found: int) -> StageCost:
    settings, engine = at.settings, at.settings.engine
    counter, context = at.counter_for(engine), context_of(engine)
    length = at.history.length("rewrite", engine, settings.rewrite.sampling)
    whole = rewriting(at.sample, settings.rewrite, counter, context).of_length(length)
    asked = whole.less(found)
    rate = at.history.tokens("rewrite", engine, start_of(at, engine))
    cost = engine_cost(engine, asked, at.device, settings.runtime, rate, shards)
    at.note_unknown(cost.unknown)
    return StageCost(
        label="rewrite",
        stage="rewrite",
        after=("prepare",),
        rows=len(at.rows.train),
        requests=asked.requests,
        read=asked.prompt_tokens,
        tokens=asked.tokens,
        most=asked.most,
        flops=cost.flops,
        seconds=cost.seconds,
        memory=cost.memory,
        shards=shards,
        found=found,
        rate=cost.rate,
        details={"too_long": whole.too_long, "length_measured": length or 0},
    )


def fuse_cost(at: Situation, shards: int) -> StageCost:
    """All rows pass the filter at most; rounds as earlier fusions took, or half of them."""
    fuse, runtime = at.settings.fuse, at.settings.runtime
    generator = at.settings.fusion_engine or at.settings.engine
    one = fusing(at.sample, fuse, at.counter_for(generator), context_of(generator))
    counts = at.history.rounds(fuse)
    rounds = mean_rounds(counts, fuse.rounds)
    asked = {0: one.repeated(rounds, fuse.rounds)}
    rate = _fusing_rate(at, generator, asked[0])
    costs = [engine_cost(generator, asked[0], at.device, runtime, rate, shards)]
    for number, judge in enumerate(fuse.judges, 1):
        if isinstance(judge, LlmScorer):
            graded = _graded(at, judge).repeated(rounds, fuse.rounds)
            costs.append(judge_cost(at, judge.generator, graded, shards, generator))
            if not isinstance(judge.generator, OpenAIConfig):
                asked[number] = graded
    cost = together(at, costs, list(asked.values()))
    return replace(
        cost,
        label="fuse",
        stage="fuse",
        after=("filter",),
        rows=len(at.rows.train),
        memory=side_by_side(costs),
        shards=shards,
        details={
            "rounds": rounds,
            "rounds_measured": float(bool(counts)),
            "too_long": one.too_long,
            "engines": sum(cost.memory is not None for cost in costs),
        },
    )


def together(at: Situation, costs: Sequence[EngineCost], local: Sequence[Asked]) -> StageCost:
    """Several engines' work as one stage's; `local` are the requests to those that load here."""
    for cost in costs:
        at.note_unknown(cost.unknown)
    return StageCost(
        label="",
        stage="",
        requests=sum(asked.requests for asked in local),
        read=sum(asked.prompt_tokens for asked in local),
        tokens=sum(asked.tokens for asked in local),
        most=sum(asked.most for asked in local),
        flops=sum(cost.flops for cost in costs),
        seconds=sum(cost.seconds for cost in costs),
        endpoints=tuple(cost.endpoint for cost in costs if cost.endpoint),
        rate=costs[0].rate if costs else "",
    )


def _fusing_rate(at: Situation, generator: GeneratorConfig, asked: Asked) -> Rate | None:
    """Candidates a second of earlier fusions, as tokens a second of this one."""
    rate = at.history.fusions(at.settings.fuse, start_of(at, generator))
    if rate is None or not asked.requests:
        return None
    return Rate(rate.per_second * asked.tokens / asked.requests, rate.stages)


def _graded(at: Situation, judge: LlmScorer) -> Asked:
    counter, context = at.counter_for(judge.generator), context_of(judge.generator)
    return grading(at.sample, judge.prompt.name, judge.max_tokens, counter, context)


def judge_cost(
    at: Situation,
    judge: GeneratorConfig,
    asked: Asked,
    shards: int = 1,
    shared: GeneratorConfig | None = None,
) -> EngineCost:
    """A judge that is a language model; one that is the `shared` engine is loaded already."""
    cost = engine_cost(judge, asked, at.device, at.settings.runtime, None, shards)
    if judge != shared:
        return cost
    again = shards * start_of(at, judge)
    return EngineCost(cost.flops, cost.seconds - again, None, cost.endpoint, cost.rate)


def start_of(at: Situation, engine: GeneratorConfig) -> float:
    model = None if isinstance(engine, OpenAIConfig) else known_model(engine.model)
    return start_seconds(engine, at.device, model)
