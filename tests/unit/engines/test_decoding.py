"""The decoding loop gives what `transformers.generate` gives, and leaves the rest to it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    LlamaConfig,
    MambaConfig,
    MistralConfig,
    MixtralConfig,
    Qwen3Config,
)

from raft_core.engines.base import Sampling
from raft_core.engines.decoding import decode, is_plain
from raft_core.engines.transformers import generate

VOCABULARY, PAD = 40, 0
SIZES = {
    "vocab_size": VOCABULARY, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8, "pad_token_id": PAD,
}  # fmt: skip
SEVERAL = [[5, 6, 7], [8], [9, 10, 11, 12, 13, 14], [15, 16]]


def model(config: Any, attention: str = "sdpa") -> Any:
    torch.manual_seed(3)
    return AutoModelForCausalLM.from_config(config, attn_implementation=attention).eval()


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize(
    "config",
    [
        LlamaConfig(**SIZES),
        Qwen3Config(**SIZES),
        GPT2Config(vocab_size=VOCABULARY, n_embd=16, n_layer=2, n_head=2),
    ],
    ids=["llama", "qwen3", "gpt2"],
)
@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(temperature=0, max_tokens=9),
        Sampling(temperature=1, max_tokens=9),
        Sampling(temperature=1.5, top_p=0.7, max_tokens=30),
    ],
    ids=["greedy", "sampled", "nucleus"],
)
def test_decode_draws_the_tokens_that_generate_draws(
    config: Any, sampling: Sampling, attention: str
) -> None:
    student = model(config, attention)
    assert is_plain(student)
    options: dict[str, Any] = {"stop_ids": [17, 18, 19, 20, 21], "pad_id": PAD}
    found = decode(student, SEVERAL, [1, 2, 3, 4], sampling, **options)
    assert found == generate(student, SEVERAL, [1, 2, 3, 4], sampling, **options)


def test_decode_ends_a_row_with_its_stop_token_and_others_at_the_limit() -> None:
    student, sampling = model(LlamaConfig(**SIZES)), Sampling(temperature=1, max_tokens=12)
    free = decode(student, SEVERAL, [1, 2, 3, 4], sampling, stop_ids=[], pad_id=PAD)
    assert [len(ids) for ids in free] == [12] * 4
    stop = free[1][3]
    ended = decode(student, SEVERAL, [1, 2, 3, 4], sampling, stop_ids=[stop], pad_id=PAD)
    for ids, whole in zip(ended, free, strict=True):
        length = whole.index(stop) + 1 if stop in whole else 12
        assert ids == whole[:length]
    assert len({len(ids) for ids in ended}) > 1


def test_decode_row_does_not_depend_on_its_batch() -> None:
    student, sampling = model(LlamaConfig(**SIZES)), Sampling(temperature=1, max_tokens=9)
    together = decode(student, SEVERAL, [1, 2, 3, 4], sampling, stop_ids=[17], pad_id=PAD)
    for row, prompt in enumerate(SEVERAL):
        alone = decode(student, [prompt], [row + 1], sampling, stop_ids=[17], pad_id=PAD)
        assert alone == [together[row]]


@pytest.mark.parametrize(
    "config",
    [
        MistralConfig(**SIZES, sliding_window=4),
        MixtralConfig(**SIZES, num_local_experts=2),
        MambaConfig(vocab_size=VOCABULARY, hidden_size=16, num_hidden_layers=1),
    ],
    ids=["sliding window", "experts", "no attention"],
)
def test_is_plain_leaves_other_models_to_generate(config: Any) -> None:
    assert not is_plain(model(config, "eager"))


def test_is_plain_leaves_a_model_with_its_own_step_to_generate() -> None:
    student = model(LlamaConfig(**SIZES))

    class Own(type(student)):  # type: ignore[misc]
        def prepare_inputs_for_generation(self, *args: Any, **kwargs: Any) -> Any:
            return super().prepare_inputs_for_generation(*args, **kwargs)

    student.__class__ = Own
    assert not is_plain(student)
