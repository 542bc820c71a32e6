"""Arithmetic, seconds and memory of one engine that answers requests."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

from raft_core.config.runtime import RuntimeConfig
from raft_core.cost.device import Device
from raft_core.cost.flops import forward
from raft_core.cost.history import Rate
from raft_core.cost.memory import GIB, EngineRoom, Memory, transformers_room, vllm_room
from raft_core.cost.models import KnownModel, known_model
from raft_core.cost.rates import ENDPOINT_SECONDS, decoding_seconds, engine_seconds
from raft_core.cost.requests import Asked
from raft_core.cost.stage_cost import EndpointUse
from raft_core.cost.tokens import expected_longest
from raft_core.engines.base import GeneratorConfig, OpenAIConfig, TransformersConfig, VllmConfig


@dataclass(frozen=True)
class EngineCost:
    """`seconds` include the engine's start; `rate` says what they are made of."""

    flops: float = 0
    seconds: float = 0
    memory: Memory | None = None
    endpoint: EndpointUse | None = None
    rate: str = ""
    unknown: str = ""


def context_of(config: GeneratorConfig) -> int | None:
    """The longest context that an engine takes; None where only an endpoint knows."""
    if isinstance(config, OpenAIConfig):
        return None
    shape = known_model(config.model).shape
    stated = config.max_model_len if config.kind == "vllm" else None
    return stated or (shape.positions or None if shape else None)


def start_seconds(config: GeneratorConfig, device: Device, model: KnownModel | None) -> float:
    """Of a stage with this engine, until it generates: the process, the engine, its weights."""
    if isinstance(config, OpenAIConfig):
        return device.machine.start
    weights = (model.weight_bytes(config.dtype) if model else None) or 0
    start = device.machine.engine_start if config.kind == "vllm" else device.machine.start
    return start + weights / device.machine.load


def engine_cost(
    config: GeneratorConfig,
    asked: Asked,
    device: Device,
    runtime: RuntimeConfig,
    rate: Rate | None = None,
    shards: int = 1,
) -> EngineCost:
    """What answering takes. A rate of earlier stages wins over the table."""
    if isinstance(config, OpenAIConfig):
        return _endpoint(config, asked, runtime)
    model = known_model(config.model)
    if model.shape is None:
        return EngineCost(unknown=model.told())
    if asked.requests < 1:  # an engine that is asked for nothing is not loaded
        return EngineCost(seconds=shards * device.machine.start)
    room = engine_room(config, asked, device, runtime)
    begin = shards * start_seconds(config, device, model)
    if rate is None:
        told = f"{device.machine.name}: {device.machine.evidence}"
        working = _table_seconds(config, asked, room, device, runtime, shards)
    else:
        told, working = rate.told("tokens"), asked.tokens / rate.per_second
    return EngineCost(forward(model.shape, asked.reading), begin + working, room.memory, rate=told)


def _table_seconds(
    config: VllmConfig | TransformersConfig,
    asked: Asked,
    room: EngineRoom,
    device: Device,
    runtime: RuntimeConfig,
    shards: int,
) -> float:
    """By the machine's entry: vLLM's steps of all that fit at once, or padded batches in turn."""
    model = known_model(config.model)
    assert model.shape is not None
    dtype = model.dtype if config.dtype == "auto" else config.dtype
    width = model.bytes_per_weight(config.dtype)
    some = (device.machine, model.shape, asked.reading)
    if config.kind == "transformers":
        batch = min(runtime.evaluation_batch_size, round(asked.requests))
        steps = ceil(asked.requests / batch) * expected_longest(asked.answers, batch)
        return decoding_seconds(*some, dtype=dtype, width=width, steps=steps)
    mean = max(1.0, asked.reading.tokens / asked.requests)
    at_once = min(runtime.vllm.max_num_seqs, asked.requests / shards, room.cached_tokens / mean)
    longest = expected_longest(asked.answers, round(asked.requests))
    steps = max(longest, asked.tokens / max(1.0, at_once))
    parallel = runtime.vllm.tensor_parallel_size
    return engine_seconds(*some, dtype=dtype, width=width, steps=steps, parallel=parallel)


def engine_room(
    config: GeneratorConfig, asked: Asked, device: Device, runtime: RuntimeConfig
) -> EngineRoom:
    """Its memory. The model's shape must be known."""
    assert not isinstance(config, OpenAIConfig)
    model = known_model(config.model)
    assert model.shape is not None
    width = model.bytes_per_weight(config.dtype)
    if config.kind == "transformers":
        batch = min(runtime.evaluation_batch_size, max(1, round(asked.requests)))
        return transformers_room(model.shape, width, batch, asked.longest, device.kind)
    share = runtime.vllm.gpu_memory_utilization * device.memory
    return vllm_room(
        model.shape,
        width,
        device=device.kind,
        share_bytes=share if device.kind == "cuda" else None,
        cache_bytes=int(runtime.vllm.cpu_kv_cache_gib * GIB),
        parallel=runtime.vllm.tensor_parallel_size,
    )


def _endpoint(config: OpenAIConfig, asked: Asked, runtime: RuntimeConfig) -> EngineCost:
    waiting = asked.requests * ENDPOINT_SECONDS / runtime.endpoints[config.endpoint].concurrency
    use = EndpointUse(
        config.endpoint,
        config.model,
        asked.requests,
        asked.prompt_tokens,
        asked.tokens,
        asked.most,
    )
    said = f"endpoint '{config.endpoint}': {ENDPOINT_SECONDS:g} s a request assumed"
    return EngineCost(seconds=waiting, endpoint=use, rate=said)


def side_by_side(costs: list[EngineCost]) -> Memory | None:
    """The memory of engines that are loaded at the same time."""
    loaded = [cost.memory for cost in costs if cost.memory is not None]
    if not loaded:
        return None
    parts: dict[str, float] = {}
    for number, memory in enumerate(loaded, 1):
        for name, size in memory.parts.items():
            parts[name if len(loaded) == 1 else f"{name} {number}"] = size
    return Memory(parts)
