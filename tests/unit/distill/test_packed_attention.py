"""Packed rows against single ones, without and with a prefix that was read before."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, Lfm2Config, LlamaConfig, MambaConfig, Qwen3Config

from raft_core.distill.batches.batches import shared_starts
from raft_core.distill.batches.packed_attention import ATTENTION, Packing, packed_inputs, packs
from raft_core.distill.batches.prefix_cache import PrefixCache
from raft_core.distill.teacher import FrozenCopy

CPU = torch.device("cpu")
SHAPE = {
    "vocab_size": 120,
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 48,
    "max_position_embeddings": 128,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}


def model_of(config: type[Any] = LlamaConfig, **changes: Any) -> Any:
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(config(**(SHAPE | changes)))


def rows_of(seed: int, lengths: list[int]) -> list[list[int]]:
    rng = Random(seed)
    return [[rng.randrange(3, 120) for _ in range(length)] for length in lengths]


def apart(model: Any, rows: list[list[int]]) -> torch.Tensor:
    """[S, V] logits of each row by itself."""
    return torch.cat([model(input_ids=torch.tensor([row])).logits[0] for row in rows])


@pytest.mark.parametrize("config", [LlamaConfig, Qwen3Config])
def test_packed_rows_logits_and_gradients_equal_single_rows(config: type[Any]) -> None:
    model = model_of(config)
    assert packs(model, 64)
    rows = rows_of(1, [1, 7, 3, 12])
    weights = torch.randn(23, 120, generator=torch.Generator().manual_seed(0))
    (apart(model, rows) * weights).sum().backward()
    expected = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    inputs = packed_inputs(rows, [range(len(row)) for row in rows], Packing([1, 7, 3, 12], CPU))
    together = model(**inputs).logits[0]
    torch.testing.assert_close(together, apart(model, rows), rtol=1e-4, atol=1e-5)
    (together * weights).sum().backward()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, expected[name], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("config", [LlamaConfig, Qwen3Config])
def test_packed_rows_that_begin_alike_read_it_once_and_equal_single_rows(config: type[Any]) -> None:
    """Two questions, each with an answer and a rollout, one of which is of one token."""
    model = model_of(config).double()
    assert packs(model, 64)
    prompts, ends = rows_of(6, [7, 4]), rows_of(7, [5, 3, 9, 0])
    rows = [prompts[row % 2] + end for row, end in enumerate(ends)]
    spans = [range(len(prompts[n % 2]) - 1, len(row)) for n, row in enumerate(rows)]
    starts = shared_starts([*prompts, *prompts])
    assert starts == [None, None, (0, 7), (1, 4)]
    single = [
        model(input_ids=torch.tensor([row])).logits[0, span.start :]
        for row, span in zip(rows, spans, strict=True)
    ]
    expected = torch.cat(single)
    weights = torch.randn(expected.shape, generator=torch.Generator().manual_seed(0)).double()
    (expected * weights).sum().backward()
    gradients = [p.grad.clone() for p in model.parameters()]
    model.zero_grad()

    packing = Packing([len(row) for row in rows], CPU, starts=starts)
    inputs = packed_inputs(rows, spans, packing)
    assert inputs["input_ids"].shape == (1, 7 + 4 + 5 + 3 + 9 + 0)
    assert inputs["position_ids"][0, -9:].tolist() == list(range(7, 16))
    together = model(**inputs).logits[0]
    (together * weights).sum().backward()

    torch.testing.assert_close(together, expected, rtol=1e-9, atol=1e-10)
    # The norms of transformers are float32 even here.
    for parameter, gradient in zip(model.parameters(), gradients, strict=True):
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-4, atol=1e-5)


def test_rows_that_share_a_start_keep_nothing_for_another_pass() -> None:
    with pytest.raises(ValueError, match="share their beginning"):
        Packing([5, 6], CPU, starts=[None, (0, 4)], keep=True)


def test_shared_start_of_one_row_changes_nothing_of_another() -> None:
    """What a rollout says is not seen by the answer to the same question, nor the other way."""
    model = model_of()
    assert packs(model, 64)
    prompt, answer, *rollouts = rows_of(8, [6, 4, 5, 5])
    found = []
    for rollout in rollouts:
        rows = [prompt + answer, prompt + rollout]
        packing = Packing([10, 11], CPU, starts=[None, (0, 6)])
        found.append(model(**packed_inputs(rows, [range(5, 10), range(5, 6)], packing)).logits)
    torch.testing.assert_close(found[0], found[1], rtol=0, atol=0)


def test_packed_rows_under_gradient_checkpointing_same_gradients() -> None:
    model, rows = model_of().train(), rows_of(2, [5, 9])
    assert packs(model, 64)
    inputs = packed_inputs(rows, [range(5), range(9)], Packing([5, 9], CPU))
    model(**inputs).logits.square().sum().backward()
    expected = [p.grad.clone() for p in model.parameters()]
    model.zero_grad()
    model.gradient_checkpointing_enable()
    model(**inputs).logits.square().sum().backward()
    for parameter, gradient in zip(model.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.grad, gradient)


def test_packed_inputs_output_layer_sees_the_scored_positions_alone() -> None:
    model, rows = model_of(), rows_of(3, [4, 6])
    assert packs(model, 64)
    inputs = packed_inputs(rows, [range(1, 3), range(0)], Packing([4, 6], CPU))
    expected = apart(model, rows)[1:3]
    torch.testing.assert_close(model(**inputs).logits[0], expected, rtol=1e-4, atol=1e-5)


def test_packed_rows_after_a_prefix_equal_whole_rows() -> None:
    """A mixed batch: two rows whose prefix is kept, one that is read from its start."""
    model = model_of()
    assert packs(model, 64)
    prompts, answers = rows_of(4, [9, 2, 5]), rows_of(5, [3, 8, 4])
    cache = PrefixCache(2**30, CPU)
    cache.fill(FrozenCopy(model), prompts[:2], batch_size=16)
    found = [cache.find(prompt) for prompt in prompts]
    assert [prefix is None for prefix in found] == [False, False, True]
    heads = [
        prompt[-1:] if prefix else prompt for prompt, prefix in zip(prompts, found, strict=True)
    ]
    rows = [head + answer for head, answer in zip(heads, answers, strict=True)]
    packing = Packing([len(row) for row in rows], CPU, found)
    assert packing.before == [8, 1, 0]
    spans = [range(len(row) - len(a), len(row)) for row, a in zip(rows, answers, strict=True)]
    together = model(**packed_inputs(rows, spans, packing)).logits[0]
    wholes = [prompt + answer for prompt, answer in zip(prompts, answers, strict=True)]
    expected = torch.cat(
        [
            model(input_ids=torch.tensor([whole])).logits[0, -len(answer) :]
            for whole, answer in zip(wholes, answers, strict=True)
        ]
    )
    torch.testing.assert_close(together, expected, rtol=1e-4, atol=1e-5)


def test_prefix_cache_over_its_budget_keeps_the_shortest() -> None:
    model = model_of()
    assert packs(model, 64)
    prompts = rows_of(6, [5, 9, 20, 40])
    a_token = 3 * 2 * 2 * 8 * 4  # layers, keys and values, heads, size of a head, bytes
    cache = PrefixCache(13 * a_token, CPU)
    cache.fill(FrozenCopy(model), prompts, batch_size=1)
    assert [cache.find(prompt) is not None for prompt in prompts] == [True, True, False, False]
    assert cache.bytes == 12 * a_token


def test_prefix_cache_order_of_the_prompts_no_matter() -> None:
    model, prompts = model_of(), rows_of(7, [5, 9, 9, 4, 12])
    assert packs(model, 64)
    one, other = PrefixCache(2**30, CPU), PrefixCache(2**30, CPU)
    one.fill(FrozenCopy(model), prompts, batch_size=2)
    other.fill(FrozenCopy(model), reversed(prompts), batch_size=2)
    for prompt in prompts:
        kept, again = one.find(prompt), other.find(prompt)
        assert kept is not None
        assert again is not None
        assert all(torch.equal(a, b) for a, b in zip(kept, again, strict=True))


def test_packs_generate_with_the_packing_attention_is_unchanged() -> None:
    model = model_of().eval()
    prompt = {
        "input_ids": torch.tensor([[0, 0, 5, 6], [7, 8, 9, 10]]),
        "attention_mask": torch.tensor([[0, 0, 1, 1], [1, 1, 1, 1]]),
    }
    before = model.generate(**prompt, do_sample=False, max_new_tokens=8)
    assert packs(model, 64)
    assert model.config._attn_implementation == ATTENTION
    assert torch.equal(model.generate(**prompt, do_sample=False, max_new_tokens=8), before)


@pytest.mark.parametrize(
    "model",
    [
        model_of(MambaConfig),
        model_of(Lfm2Config, layer_types=["conv", "full_attention", "conv"]),
        model_of(LlamaConfig, attn_implementation="eager"),
    ],
    ids=["state space", "convolutions", "eager attention"],
)
def test_packs_layers_that_mix_rows_otherwise_false(model: Any) -> None:
    before = model.config._attn_implementation
    assert not packs(model, 64)
    assert model.config._attn_implementation == before


def test_packs_window_shorter_than_the_rows_false() -> None:
    model = model_of(Qwen3Config, use_sliding_window=True, sliding_window=32, max_window_layers=0)
    assert not packs(model, 64)
    assert packs(model, 30)


def test_packed_model_saved_config_names_no_attention(tmp_path: Any) -> None:
    model = model_of()
    assert packs(model, 64)
    model.save_pretrained(tmp_path)
    assert ATTENTION not in (tmp_path / "config.json").read_text()
