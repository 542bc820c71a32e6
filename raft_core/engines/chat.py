"""Turning one user message into the token ids that a chat model answers, the same everywhere."""

from __future__ import annotations

from typing import Any

from raft_core.config import ModelRef
from raft_core.errors import InputError


def load_tokenizer(model: ModelRef) -> Any:
    """The model's tokenizer, padding on the left.

    Raises:
        InputError: it has no chat template.
    """
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(
        model.resolve(), revision=model.revision, padding_side="left"
    )
    if not tokenizer.chat_template:
        raise InputError(
            f"model '{model.path}' has no chat template; "
            "RAFT needs an instruction-tuned model whose tokenizer carries one"
        )
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def encode_prompt(tokenizer: Any, prompt: str, enable_thinking: bool = False) -> list[int]:
    """Token ids of a single user message up to and including the assistant's start."""
    encoded = tokenizer.apply_chat_template(
        [{"role": "user", "content": prompt}],
        add_generation_prompt=True,
        enable_thinking=enable_thinking,
        return_dict=True,
    )
    return list(encoded["input_ids"])


def stop_token_ids(tokenizer: Any, generation_config: Any) -> list[int]:
    """Every id that ends an answer: the generation config may know more than the tokenizer."""
    configured = getattr(generation_config, "eos_token_id", None)
    found = configured if isinstance(configured, list) else [configured]
    return sorted({i for i in [*found, tokenizer.eos_token_id] if i is not None})
