"""Untrained embedded models: two shapes of two families, as a comparison needs."""

from __future__ import annotations

from typing import Any

import torch
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from raft_core.mini.tokenizer import MAX_LENGTH


def new_model(name: str, tokenizer: PreTrainedTokenizerFast, seed: int) -> PreTrainedModel:
    """Return random weights of the model `base` or `peer`; heads of 32, which vLLM serves on a CPU.

    The peer has grouped heads, normalised queries and keys, one layer more and an output matrix of
    its own.
    """
    torch.manual_seed(seed)
    model = _llama(tokenizer) if name == "base" else _qwen(tokenizer)
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    model.generation_config.bos_token_id = None
    return model


def _llama(tokenizer: PreTrainedTokenizerFast) -> PreTrainedModel:
    return LlamaForCausalLM(
        LlamaConfig(
            **_common(tokenizer),
            intermediate_size=352,
            num_hidden_layers=4,
            num_key_value_heads=4,
            tie_word_embeddings=True,
        )
    )


def _qwen(tokenizer: PreTrainedTokenizerFast) -> PreTrainedModel:
    return Qwen3ForCausalLM(
        Qwen3Config(
            **_common(tokenizer),
            intermediate_size=288,
            num_hidden_layers=5,
            num_key_value_heads=2,
            tie_word_embeddings=False,
        )
    )


def _common(tokenizer: PreTrainedTokenizerFast) -> dict[str, Any]:
    return {
        "vocab_size": len(tokenizer),
        "hidden_size": 128,
        "num_attention_heads": 4,
        "head_dim": 32,
        "max_position_embeddings": MAX_LENGTH,
        "bos_token_id": None,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        "dtype": "float32",
    }
