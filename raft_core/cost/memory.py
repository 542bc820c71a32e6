"""Memory of one device, stage by stage, part by part, in bytes.

A training is at its peak either while it generates rollouts, or between a step's forward and
backward passes, or when its results are written; what is there all along counts in each. The count
of activations follows what autograd keeps of a pre-norm layer with a gated MLP (see `layer_bytes`).
The allocator's own waste is not in it: of the peak of real trainings of 50M parameters on the CPU
this counts 0.82 to 1.01 with all activations kept, 0.77 with checkpointing and 0.60 under LoRA.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from raft_core.cost.shapes import HEAD_NORMS, ModelShape
from raft_core.distill.config import DistillConfig

# Of distill/chunked.py, which loads torch: numbers of one chunk of logits.
CHUNK_ELEMENTS = 2**24
MASTER = 4
GIB = 2**30
# A CUDA context with its kernels; an interpreter with torch and transformers on the CPU (measured).
CONTEXT_BYTES = {"cuda": 600 * 2**20, "cpu": 550 * 2**20}
# What vLLM needs beside weights and KV cache: its profiling run's activations and CUDA graphs.
ENGINE_BYTES = {"cuda": 2 * GIB, "cpu": 1 * GIB}
BYTES_A_TARGET = 16  # a teacher's token id (8), its logit (4) and the gradient there (4)


@dataclass(frozen=True)
class Memory:
    """Parts that are there all along, and phases of which one at a time is."""

    resident: Mapping[str, float]
    phases: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    @property
    def peak(self) -> float:
        return sum(self.resident.values()) + sum(self.phases.get(self.widest, {}).values())

    @property
    def widest(self) -> str:
        """The phase that takes most; '' without phases."""
        return max(self.phases, key=lambda name: sum(self.phases[name].values()), default="")

    @property
    def parts(self) -> dict[str, float]:
        """What is there at the peak."""
        return dict(self.resident) | dict(self.phases.get(self.widest, {}))


@dataclass(frozen=True, slots=True)
class PassSize:
    """The largest pass of one process, as lengths in tokens of rows that are packed in it.

    `rows` are those of the batch; `rollouts` of them are distilled on, each with a completion of
    its own beside the answer. `drawn` rollouts of a whole step are written in one batch.
    """

    rows: int
    rollouts: int
    prompt: int
    completion: int
    rollout: int
    teacher_prompt: int
    drawn: int

    @property
    def student_tokens(self) -> int:
        answers = self.rows * (self.prompt + self.completion)
        return answers + self.rollouts * (self.prompt + self.rollout)

    @property
    def scored(self) -> int:
        return self.rows * self.completion + self.rollouts * self.rollout


@dataclass(frozen=True, slots=True)
class Precision:
    """Bytes of a number: of held weights, of the residual stream, of products of matrices."""

    weights: int
    residual: int
    products: int

    @classmethod
    def of(cls, config: DistillConfig, device: str) -> Precision:
        """Trained weights are float32; bfloat16 arithmetic on them is CUDA's autocast."""
        held = 2 if config.adapter is not None and config.dtype == "bfloat16" else MASTER
        autocast = config.dtype == "bfloat16" and device == "cuda"
        return cls(held, held, 2 if autocast else held)


def layer_bytes(shape: ModelShape, size: Precision, adapter: bool = False) -> int:
    """What autograd keeps of one token in one layer, without checkpointing.

    Each of two norms: its input in float32, what was normalised (for the gain's gradient), and its
    output, which the matrices read. Attention: queries, keys and values, the latter two repeated
    for every head, the mix, and the mix in the order that the output matrix reads. The MLP: gate,
    its activation, up, and their product. Some families also norm each head's queries and keys.
    """
    gain = 0 if adapter else size.residual
    norms = 2 * shape.hidden * (MASTER + gain + size.products)
    attention = 5 * shape.query_width * size.products
    if shape.family in HEAD_NORMS:
        attention += (shape.query_width + shape.kv_width) * (MASTER + gain)
    return norms + attention + 4 * shape.intermediate * size.products


def activation_bytes(
    shape: ModelShape, tokens: int, size: Precision, *, checkpointing: bool, adapter: bool = False
) -> float:
    """Of one pass over so many tokens: all layers, or each layer's input and one layer's whole."""
    one = layer_bytes(shape, size, adapter)
    if checkpointing:
        return tokens * (shape.layers * shape.hidden * size.residual + one)
    return tokens * shape.layers * one


def kv_bytes(shape: ModelShape, width: int) -> int:
    """Keys and values of one token in all layers."""
    return 2 * shape.layers * shape.kv_width * width


def loss_bytes(shape: ModelShape, scored: int, distilled: int, top_k: int, width: int) -> float:
    """The chunked losses: hidden states and their gradient, the targets, and chunks of logits.

    A chunk is there in the type of products, in float32, and once more while it is worked on.
    """
    chunk = min(CHUNK_ELEMENTS, max(scored, 1) * shape.vocabulary)
    hidden = scored * shape.hidden * (width + MASTER)
    return hidden + distilled * top_k * BYTES_A_TARGET + chunk * (width + 2 * MASTER)


def training_memory(
    shape: ModelShape,
    config: DistillConfig,
    size: PassSize,
    *,
    device: str,
    processes: int = 1,
    shard: bool = True,
    engine_bytes: float = 0.0,
    prefix_bytes: float = 0.0,
    graph: bool = False,
) -> Memory:
    """Of one process. `engine_bytes` is what a vLLM engine for rollouts takes beside it, and
    `prefix_bytes` what the host keeps of the teacher's prompts. The keys and values of rollouts by
    a CUDA `graph` stay for the whole training.
    """
    width = Precision.of(config, device)
    parts = _resident(shape, config, width, device, processes if shard else 1, size.rollouts > 0)
    if engine_bytes:
        parts["rollout engine"] = engine_bytes
        if config.adapter is not None:
            parts["merged weights"] = shape.parameters * width.weights
    step = {"gradients": parts["optimizer"] / 2} | _step(shape, config, size, width)
    phases: dict[str, dict[str, float]] = {"step": step}
    if size.rollouts and not engine_bytes:
        tokens = size.drawn * (size.prompt + size.rollout)
        cache = {"KV cache": float(tokens * kv_bytes(shape, width.residual))}
        if graph:
            parts |= cache
        phases["rollouts"] = cache  # by a graph: those of the prompts, before they are copied
    base = {"base for weight distances": float(shape.parameters * MASTER)}
    if device == "cpu":
        # A stage's process keeps what it has freed (KEEP_MEMORY of runtime.py), and maps the base.
        parts |= base | ({"teacher's prompts": prefix_bytes} if prefix_bytes else {})
    else:
        phases["results"] = base
    return Memory(parts, phases)


def _step(
    shape: ModelShape, config: DistillConfig, size: PassSize, width: Precision
) -> dict[str, float]:
    """What is there between a forward and its backward pass."""
    parts: dict[str, float] = {
        "activations": activation_bytes(
            shape,
            size.student_tokens,
            width,
            checkpointing=config.gradient_checkpointing,
            adapter=config.adapter is not None,
        ),
        "loss": loss_bytes(
            shape, size.scored, size.rollouts * size.rollout, config.top_k, width.products
        ),
    }
    if width.products < width.weights:
        # Autocast keeps the copies that it has cast until the forward pass is over.
        parts["cast weights"] = shape.parameters * width.products
    return parts


def _resident(
    shape: ModelShape,
    config: DistillConfig,
    width: Precision,
    device: str,
    parts: int,
    teaches: bool,
) -> dict[str, float]:
    """Weights, AdamW's two moments and the teacher, split over `parts` processes."""
    adapter, total = config.adapter, shape.parameters
    trained = total if adapter is None else shape.adapter_parameters(adapter.rank, adapter.modules)
    resident: dict[str, float] = {"weights": total * width.weights / parts}
    if adapter is not None:
        resident["adapter"] = trained * MASTER / parts
    resident["optimizer"] = 2 * trained * MASTER / parts
    if teaches and adapter is None:
        frozen = 2 if config.dtype == "bfloat16" else MASTER
        resident["teacher"] = total * frozen / parts
    if parts > 1:
        # The embeddings and two layers are whole at a time: one computes, the next is on its way.
        whole = shape.output_weights + 2 * shape.layer_parameters
        resident["gathered layers"] = whole * width.products
    resident["context"] = CONTEXT_BYTES[device]
    return resident


@dataclass(frozen=True, slots=True)
class EngineRoom:
    """What a generating engine takes of one device, and how many tokens its KV cache holds."""

    memory: Memory
    cached_tokens: float


def vllm_room(
    shape: ModelShape,
    width: int,
    *,
    device: str,
    share_bytes: float | None,
    cache_bytes: float,
    parallel: int = 1,
) -> EngineRoom:
    """On a GPU it takes its share, whatever the model; on the CPU weights and the stated cache."""
    weights = shape.parameters * width / parallel
    if share_bytes is None:
        cache = cache_bytes
    else:
        cache = max(0.0, share_bytes - weights - ENGINE_BYTES[device])
    parts = {"weights": weights, "KV cache": cache, "engine": float(ENGINE_BYTES[device])}
    return EngineRoom(Memory(parts), cache * parallel / kv_bytes(shape, width))


def transformers_room(
    shape: ModelShape, width: int, batch: int, longest: int, device: str
) -> EngineRoom:
    """One batch at a time, padded to its longest."""
    tokens = batch * longest
    cache = float(tokens * kv_bytes(shape, width))
    parts = {"weights": float(shape.parameters * width), "KV cache": cache}
    return EngineRoom(Memory(parts | {"context": float(CONTEXT_BYTES[device])}), tokens)
