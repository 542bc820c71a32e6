"""The sizes of a decoder-only model, and its parameters counted from them.

The families here are pre-norm decoders with rotary positions and a gated MLP. A family that is not
listed is counted like a Llama where its config.json names the same sizes, which is then said.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

# Families whose count is exact, with what each has beyond a Llama.
QKV_BIAS = frozenset({"qwen2"})
HEAD_NORMS = frozenset({"qwen3"})
FUSED = frozenset({"phi3"})
EXACT = frozenset({"llama", "mistral", "smollm3"}) | QKV_BIAS | HEAD_NORMS | FUSED
# Where a config.json does not say whether the output matrix is the embeddings.
TIED_BY_DEFAULT = frozenset({"smollm3"})
EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts")


@dataclass(frozen=True, slots=True)
class Linear:
    """One matrix of a layer, by the name that adapters know it by."""

    name: str
    inputs: int
    outputs: int
    bias: bool = False

    @property
    def weights(self) -> int:
        return self.inputs * self.outputs


@dataclass(frozen=True, slots=True)
class ModelShape:
    """Sizes of one model; `positions` is the longest context that it was made for."""

    family: str
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    intermediate: int
    vocabulary: int
    positions: int
    tied: bool
    attention_bias: bool = False
    mlp_bias: bool = False

    @property
    def query_width(self) -> int:
        return self.heads * self.head_dim

    @property
    def kv_width(self) -> int:
        """Of the keys, and again of the values, of one token in one layer."""
        return self.kv_heads * self.head_dim

    @property
    def linears(self) -> tuple[Linear, ...]:
        """The matrices of one layer."""
        h, i, q, kv = self.hidden, self.intermediate, self.query_width, self.kv_width
        read = self.attention_bias or self.family in QKV_BIAS
        if self.family in FUSED:
            return (
                Linear("qkv_proj", h, q + 2 * kv, read),
                Linear("o_proj", q, h, self.attention_bias),
                Linear("gate_up_proj", h, 2 * i, self.mlp_bias),
                Linear("down_proj", i, h, self.mlp_bias),
            )
        return (
            Linear("q_proj", h, q, read),
            Linear("k_proj", h, kv, read),
            Linear("v_proj", h, kv, read),
            Linear("o_proj", q, h, self.attention_bias),
            Linear("gate_proj", h, i, self.mlp_bias),
            Linear("up_proj", h, i, self.mlp_bias),
            Linear("down_proj", i, h, self.mlp_bias),
        )

    @property
    def body_weights(self) -> int:
        """Numbers in the matrices of all layers: each is multiplied once for every token."""
        return self.layers * sum(linear.weights for linear in self.linears)

    @property
    def layer_parameters(self) -> int:
        """Of one layer, biases and norms included."""
        matrices = sum(m.weights + (m.outputs if m.bias else 0) for m in self.linears)
        head_norms = 2 * self.head_dim if self.family in HEAD_NORMS else 0
        return matrices + 2 * self.hidden + head_norms

    @property
    def output_weights(self) -> int:
        """Of the output matrix, which may be the embeddings."""
        return self.vocabulary * self.hidden

    @property
    def parameters(self) -> int:
        """All numbers that a checkpoint of the model holds."""
        outer = self.output_weights * (1 if self.tied else 2) + self.hidden
        return self.layers * self.layer_parameters + outer

    def adapter_parameters(self, rank: int, modules: str | tuple[str, ...] = "all-linear") -> int:
        """Of LoRA on every linear layer but the output, or on the named ones."""
        names = (modules,) if isinstance(modules, str) else modules
        adapted = [m for m in self.linears if "all-linear" in names or m.name in names]
        return self.layers * sum(rank * (m.inputs + m.outputs) for m in adapted)


def shape_of(config: Mapping[str, Any]) -> ModelShape | None:
    """The shape that a config.json states; None where it states none that is known here."""
    text = config.get("text_config", config)
    if any(text.get(name) for name in EXPERTS):
        return None
    family = str(text.get("model_type", config.get("model_type", "")))
    tied = text.get("tie_word_embeddings", config.get("tie_word_embeddings"))
    try:
        heads, hidden = int(text["num_attention_heads"]), int(text["hidden_size"])
        return ModelShape(
            family=family,
            layers=int(text["num_hidden_layers"]),
            hidden=hidden,
            heads=heads,
            kv_heads=int(text.get("num_key_value_heads") or heads),
            head_dim=int(text.get("head_dim") or hidden // heads),
            intermediate=int(text["intermediate_size"]),
            vocabulary=int(text["vocab_size"]),
            positions=int(text.get("max_position_embeddings") or 0),
            tied=family in TIED_BY_DEFAULT if tied is None else bool(tied),
            attention_bias=bool(text.get("attention_bias", False)),
            mlp_bias=bool(text.get("mlp_bias", False)),
        )
    except (KeyError, TypeError, ValueError):
        return None


# As the config.json of each says on the hub; their cards state 3.08B, 3.21B, 3.8B and 32.8B.
BUILT_IN = {
    "HuggingFaceTB/SmolLM3-3B": ModelShape(
        "smollm3", 36, 2048, 16, 4, 128, 11008, 128256, 65536, tied=True
    ),
    "meta-llama/Llama-3.2-3B-Instruct": ModelShape(
        "llama", 28, 3072, 24, 8, 128, 8192, 128256, 131072, tied=True
    ),
    "microsoft/Phi-4-mini-instruct": ModelShape(
        "phi3", 32, 3072, 24, 8, 128, 8192, 200064, 131072, tied=True
    ),
    "Qwen/Qwen3-32B": ModelShape("qwen3", 64, 5120, 64, 8, 128, 25600, 151936, 40960, tied=False),
}
