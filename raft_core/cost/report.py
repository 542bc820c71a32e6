"""An estimate as lines for people, and as JSON."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from raft_core.cost.estimate import Estimate
from raft_core.cost.memory import GIB
from raft_core.cost.stage_cost import StageCost

HEADER = ("stage", "requests", "read", "generate", "at most", "steps", "FLOPs", "memory", "time")


def lines(estimate: Estimate) -> Iterator[str]:
    """What the terminal shows."""
    settings, counts = estimate.settings, estimate.rows.counts
    domain = "no data" if estimate.rows.assumed else f"domain {settings.domain.name}"
    yield f"Dry run: profile {settings.profile}, {domain}. Nothing is started."
    yield ""
    splits = ", ".join(f"{n:,} {split}" for split, n in counts.items())
    bound = "" if estimate.rows.exact else "at most "
    yield f"rows     {estimate.rows.read:,} read; {bound}{splits} ({estimate.rows.source})"
    for model in estimate.models:
        yield f"model    {model.told()}"
    yield f"tokens   counted by {estimate.tokenizer}"
    yield f"device   {estimate.device.told()}"
    yield ""
    yield from table([HEADER, *map(row, estimate.stages)])
    yield ""
    yield from training_lines(estimate.stages)
    yield from memory_lines(estimate.stages)
    yield from endpoint_lines(estimate)
    yield from total_lines(estimate)
    yield from told("Note", estimate.notes)
    yield from told("Warning", estimate.warnings)
    yield from told("Warning: a run would stop", estimate.stops)


def row(stage: StageCost) -> tuple[str, ...]:
    """One stage of the table; what is kept costs nothing."""
    name = f"{stage.label} x{stage.shards}" if stage.shards > 1 else stage.label
    if stage.kept:
        return (name, *[""] * (len(HEADER) - 2), "Cached")
    memory = "" if stage.memory is None else size(stage.memory.peak)
    amounts = (stage.requests, stage.read, stage.tokens, stage.most, stage.steps)
    arithmetic = f"{stage.flops:.1e}" if stage.flops else ""
    return (name, *map(amount, amounts), arithmetic, memory, duration(stage.seconds))


def table(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Columns of equal width; all but the first are figures."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for cells in rows:
        first, *others = cells
        padded = [c.rjust(width) for c, width in zip(others, widths[1:], strict=True)]
        yield "  ".join([first.ljust(widths[0]), *padded]).rstrip()


def training_lines(stages: Sequence[StageCost]) -> Iterator[str]:
    """The arithmetic of every training by its parts."""
    for stage in stages:
        parts = {
            name.removeprefix("flops_"): value
            for name, value in stage.details.items()
            if name.startswith("flops_") and value
        }
        if parts and stage.runs:
            shares = ", ".join(f"{name} {value:.1e}" for name, value in parts.items())
            yield f"FLOPs    {stage.label}: {shares}"


def memory_lines(stages: Sequence[StageCost]) -> Iterator[str]:
    """What fills a device, of every stage that loads a model; equal ones once."""
    seen: set[str] = set()
    for stage in stages:
        if stage.memory is None or not stage.runs:
            continue
        parts = sorted(stage.memory.parts.items(), key=lambda part: -part[1])
        text = ", ".join(f"{name} {size(number)}" for name, number in parts if number)
        kind = f"{stage.stage} {text}"
        if kind not in seen:
            seen.add(kind)
            yield f"memory   {stage.label}: {text}"


def endpoint_lines(estimate: Estimate) -> Iterator[str]:
    """Calls and tokens by endpoint and model, over all stages that would run."""
    spent: dict[tuple[str, str], list[float]] = {}
    for stage in estimate.stages:
        for use in stage.endpoints if stage.runs else ():
            total = spent.setdefault((use.endpoint, use.model), [0.0] * 4)
            amounts = (use.requests, use.prompt_tokens, use.tokens, use.most)
            spent[use.endpoint, use.model] = [a + b for a, b in zip(total, amounts, strict=True)]
    for (endpoint, model), (requests, prompts, tokens, most) in spent.items():
        yield (
            f"endpoint {endpoint}, {model}: {requests:,.0f} requests, {prompts:,.0f} prompt "
            f"tokens, {tokens:,.0f} to {most:,.0f} generated; {budget_of(estimate, endpoint)}"
        )


def budget_of(estimate: Estimate, endpoint: str) -> str:
    budget = estimate.settings.runtime.endpoints[endpoint].budget.model_dump(exclude_none=True)
    stated = ", ".join(f"{value:,} {unit}" for unit, value in budget.items())
    return f"a stage's budget: {stated}" if stated else "no budget; prices are not known here"


def total_lines(estimate: Estimate) -> Iterator[str]:
    """Sums over what would run."""
    missing = [stage for stage in estimate.stages if stage.runs]
    generated, most = sum(s.tokens for s in missing), sum(s.most for s in missing)
    yield (
        f"total    {generated:,.0f} tokens to generate (at most {most:,.0f}), "
        f"{sum(s.steps for s in missing):,} steps, {sum(s.flops for s in missing):.2e} FLOPs"
    )
    found = sum(stage.found for stage in missing)
    if found:
        yield f"cache    {found:,} completions of these stages are there and left out"
    kept = len(estimate.stages) - len(missing)
    if kept:
        yield f"store    holds {kept} of {len(estimate.stages)} stages"
    yield (
        f"disk     {size(estimate.disk)} for checkpoints, {size(estimate.device.free_disk)} free"
    )
    slots = estimate.settings.runtime.parallel_stages
    beside = f", {slots} stages at a time" if slots > 1 else ""
    yield f"time     {duration(estimate.seconds)}{beside}, without Prefect's own start"
    yield from rate_lines(missing)


def rate_lines(stages: Sequence[StageCost]) -> Iterator[str]:
    """What the times are made of, each with the stages that it is of."""
    by_rate: dict[str, list[str]] = {}
    for stage in stages:
        if stage.rate:
            by_rate.setdefault(stage.rate, []).append(stage.label)
    for rate, labels in by_rate.items():
        yield f"rate     {', '.join(labels)}: {rate}"


def told(what: str, texts: Sequence[str]) -> Iterator[str]:
    for text in texts:
        yield ""
        yield f"{what}: {text}."


def amount(number: float) -> str:
    """`1,234`, or `5.6M` from a million on; nothing of nothing."""
    if not number:
        return ""
    if number < 1e6:
        return f"{number:,.0f}"
    return f"{number / 1e6:,.1f}M" if number < 1e9 else f"{number / 1e9:,.1f}G"


def size(number: float) -> str:
    """`12 MiB`, or `3.4 GiB` from a tenth of a GiB on."""
    if number >= GIB / 10:
        return f"{number / GIB:.1f} GiB"
    return f"{number / 2**20:.0f} MiB"


def duration(seconds: float) -> str:
    """`12 s`, `3.4 min` or `5.6 h`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def as_json(estimate: Estimate) -> dict[str, Any]:
    """All figures, in units: bytes, seconds, tokens, operations."""
    return {
        "profile": estimate.settings.profile,
        "domain": estimate.settings.domain.name,
        "rows": {
            "read": estimate.rows.read,
            "splits": estimate.rows.counts,
            "exact": estimate.rows.exact,
            "source": estimate.rows.source,
        },
        "models": [model_json(model) for model in estimate.models],
        "tokens_by": estimate.tokenizer,
        "device": {
            "name": estimate.device.machine.name,
            "here": estimate.device.here,
            "memory_bytes": estimate.device.memory,
            "rates": estimate.device.machine.evidence,
        },
        "stages": [stage_json(stage) for stage in estimate.stages],
        "seconds": estimate.seconds,
        "disk_bytes": estimate.disk,
        "stops": list(estimate.stops),
        "warnings": list(estimate.warnings),
        "notes": list(estimate.notes),
    }


def model_json(model: Any) -> dict[str, Any]:
    shape = model.shape
    return {
        "name": model.name,
        "source": model.source,
        "parameters": None if shape is None else shape.parameters,
    }


def stage_json(stage: StageCost) -> dict[str, Any]:
    fields = asdict(stage)
    memory = stage.memory
    fields["memory"] = None
    if memory is not None:
        fields["memory"] = {"peak": memory.peak, "phase": memory.widest, "parts": memory.parts}
    return fields
