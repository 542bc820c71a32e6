"""What a method's training would take, and the pruning after it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace

from raft_core.cost.flops import TrainingFlops
from raft_core.cost.memory import (
    GIB,
    Memory,
    Precision,
    kv_bytes,
    training_memory,
    vllm_room,
)
from raft_core.cost.models import BYTES
from raft_core.cost.rates import decoding_seconds, engine_seconds, training_seconds
from raft_core.cost.shapes import ModelShape
from raft_core.cost.situation import Situation
from raft_core.cost.stage_cost import StageCost
from raft_core.cost.tokens import expected_longest, sampled
from raft_core.cost.training import PrefixBudget, Training, planned_training
from raft_core.data.sources import checked_text, read_rows
from raft_core.distill.config import DistillConfig, MethodConfig

# Of distill/checkpoints.py, which loads nothing heavy but knows more than is asked here: two are
# kept, and a third is written before the first goes.
CHECKPOINTS = 3
# Handing a student's weights to an engine copies them within the device about this many times.
SYNC_COPIES = 4


def distilling_costs(at: Situation, name: str, after: Sequence[str]) -> list[StageCost]:
    """`distill NAME`, and `prune NAME` where the method is pruned."""
    method, config = at.settings.methods[name], at.settings.distill
    processes = at.settings.runtime.training.processes
    training = planned_training(
        at.sample,
        method,
        config,
        at.counter(at.settings.base),
        processes=processes,
        rehearsal=general_prompts(at, name, method),
        rollout_length=at.history.rollout_length(at.settings.distill_stage(name)),
        prefixes=prefix_budget(at),
    )
    cost = StageCost(
        label=f"distill {name}",
        stage="distill",
        after=tuple(after),
        rows=training.rows,
        requests=training.drawn.sequences,
        read=training.answers.tokens + training.distilled.tokens + training.teacher.tokens,
        tokens=training.rollout_tokens,
        most=training.rollout_most,
        steps=training.steps,
        details={"too_long": training.too_long, "cut": training.cut},
    )
    shape = at.base.shape
    if shape is not None:
        cost = _with_shape(at, cost, name, training, shape)
    costs = [cost]
    if method.prune is not None:
        label, size = f"prune {name}", cost.artifact_bytes
        seconds = at.history.seconds("prune") or at.machine.start + 3 * size / at.machine.load
        costs.append(StageCost(label, "prune", (cost.label,), seconds=seconds, artifact_bytes=size))
    return costs


def general_prompts(at: Situation, name: str, method: MethodConfig) -> Sequence[str]:
    """Some of the prompts of a method that rehearses, which stand for all."""
    prompts: list[str] = []
    if method.rehearsal is not None:
        source = method.rehearsal.data
        with at.noting(f"methods.{name}.rehearsal"):
            for where, row in read_rows(source, (source.columns.question, "prompt")):
                # As distill/rehearsal.py, which loads torch, reads them.
                known = source.columns.question in row or "prompt" not in row
                field = source.columns.question if known else "prompt"
                prompts.append(checked_text(where, row, field))
    return sampled(prompts).rows


def _with_shape(
    at: Situation, cost: StageCost, name: str, training: Training, shape: ModelShape
) -> StageCost:
    config, runtime = at.settings.distill, at.settings.runtime
    flops = training.flops(shape, config)
    engine = engine_memory(at, shape) if training.largest.rollouts else None
    memory = training_memory(
        shape,
        config,
        training.largest,
        device=at.device.kind,
        processes=runtime.training.processes,
        shard=runtime.training.shard,
        engine_bytes=engine.peak if engine else 0.0,
        prefix_bytes=training.prefix_bytes,
        graph=by_graph(at),
    )
    rate = at.history.visits(at.settings.distill_stage(name), at.machine.start)
    if rate is not None:
        visits, told = training.answers.sequences, rate.told("rows")
        seconds = at.machine.start + visits / rate.per_second
    else:
        told = f"{at.machine.name}: {at.machine.evidence}"
        seconds = table_seconds(at, training, shape, flops)
    final, trained = shape.parameters * BYTES[config.dtype], trained_parameters(shape, config)
    return replace(
        cost,
        flops=flops.total,
        seconds=seconds,
        memory=memory,
        artifact_bytes=final + (4 * trained if config.adapter else 0),
        scratch_bytes=CHECKPOINTS * 12 * trained,
        rate=told,
        details=dict(cost.details) | {f"flops_{n}": value for n, value in asdict(flops).items()},
    )


def prefix_budget(at: Situation) -> PrefixBudget | None:
    """For keys and values of the teacher's prompts, where a training keeps them."""
    runtime, shape = at.settings.runtime.training, at.base.shape
    if shape is None or (runtime.processes > 1 and runtime.shard):
        return None
    width = BYTES[at.settings.distill.dtype]
    return PrefixBudget(runtime.prefix_cache_gib * GIB, kv_bytes(shape, width))


def trained_parameters(shape: ModelShape, config: DistillConfig) -> int:
    """All, or the adapter's."""
    if config.adapter is None:
        return shape.parameters
    return shape.adapter_parameters(config.adapter.rank, config.adapter.modules)


def engine_memory(at: Situation, shape: ModelShape) -> Memory | None:
    """Of a vLLM engine beside the training; None where the student itself generates."""
    config, runtime = at.settings.distill, at.settings.runtime
    if config.rollout_engine != "vllm":
        return None
    share = runtime.vllm.beside_training * at.device.memory
    return vllm_room(
        shape,
        BYTES[config.dtype],
        device=at.device.kind,
        share_bytes=share if at.device.kind == "cuda" else None,
        cache_bytes=int(runtime.vllm.cpu_kv_cache_gib * GIB),
    ).memory


def table_seconds(
    at: Situation, training: Training, shape: ModelShape, flops: TrainingFlops
) -> float:
    """From the machine's entry: the start, every step, and the rollouts before it."""
    config, machine = at.settings.distill, at.machine
    processes = at.settings.runtime.training.processes
    steps = training_seconds(
        machine,
        shape,
        flops,
        dtype=config.dtype,
        passes=training.passes,
        steps=training.steps,
        trained_parameters=trained_parameters(shape, config),
        processes=processes,
    )
    loading = 2 * shape.parameters * BYTES["float32"] / machine.load
    return machine.start + loading + steps + _rollout_seconds(at, training, shape)


def _rollout_seconds(at: Situation, training: Training, shape: ModelShape) -> float:
    """Every step waits for its longest rollout; autocast casts float32 weights in each."""
    config, machine = at.settings.distill, at.machine
    if not training.largest.rollouts:
        return 0.0
    longest = expected_longest(training.rollout_lengths, training.largest.drawn)
    steps = training.steps * longest / config.rollout_uses
    precision = Precision.of(config, at.device.kind)
    width = precision.products
    reading = training.drawn.times(1 / at.settings.runtime.training.processes)
    if config.rollout_engine == "transformers":
        if precision.products < precision.weights:
            width = precision.weights + 2 * precision.products
        return decoding_seconds(
            machine,
            shape,
            reading,
            dtype=config.dtype,
            width=width,
            steps=steps,
            graph=by_graph(at),
        )
    syncing = training.steps * SYNC_COPIES * shape.parameters * width / machine.bandwidth
    return syncing + engine_seconds(
        machine, shape, reading, dtype=config.dtype, width=width, steps=steps
    )


def by_graph(at: Situation) -> bool:
    """Whether a CUDA graph draws the rollouts, as `distill/rollout.py` decides."""
    training = at.settings.runtime.training
    sharded = training.shard and training.processes > 1
    return at.device.kind == "cuda" and training.graph_rollouts and not sharded


def batch_problem(config: DistillConfig, processes: int) -> str:
    """What a training would refuse of its batch; '' where it fits."""
    parts = config.gradient_accumulation * processes
    if config.batch_size % parts:
        return (
            f"distill.batch_size={config.batch_size} cannot be split over {processes} processes "
            f"and {config.gradient_accumulation} accumulation steps"
        )
    return ""
