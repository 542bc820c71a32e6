"""The captured step without a GPU: all but the capture itself."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from itertools import takewhile
from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
    SmolLM3Config,
    SmolLM3ForCausalLM,
)

from raft_core.config.base import PACKAGE_ROOT
from raft_core.distill.batches.packed_attention import ATTENTION
from raft_core.engines.base import Sampling
from raft_core.engines.decoding import decode
from raft_core.engines.graph_decoding import GraphDecoder, can_capture
from raft_core.engines.graph_step import Step
from raft_core.engines.transformers import generate

PROMPTS = [[5, 9, 11, 4, 20, 31], [7], [8, 3, 40, 22], [33, 34, 35, 36, 37, 38, 39, 41, 42]]
SAMPLING = Sampling(temperature=1.0, max_tokens=40)
SIZES = {
    "vocab_size": 61,
    "hidden_size": 48,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 512,
    "initializer_range": 0.3,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}


def llama(**changes: Any) -> Any:
    torch.manual_seed(0)
    return LlamaForCausalLM(LlamaConfig(**(SIZES | changes))).eval()


def qwen() -> Any:
    torch.manual_seed(0)
    return Qwen3ForCausalLM(Qwen3Config(**SIZES)).eval()


def mistral() -> Any:
    torch.manual_seed(0)
    return MistralForCausalLM(MistralConfig(**SIZES, sliding_window=None)).eval()


def smol() -> Any:
    torch.manual_seed(0)
    return SmolLM3ForCausalLM(SmolLM3Config(**SIZES, use_sliding_window=False)).eval()


def heads_of_their_own() -> Any:
    return llama(num_key_value_heads=6)


def packed_llama() -> Any:
    model = llama()
    model.set_attn_implementation(ATTENTION)
    return model


def adapted_llama() -> Any:
    from peft import LoraConfig, get_peft_model

    student = get_peft_model(llama(), LoraConfig(r=4, target_modules="all-linear"))
    for name, parameter in student.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.2)
    return student.get_base_model().eval()


def mini_base() -> Any:
    return AutoModelForCausalLM.from_pretrained(PACKAGE_ROOT / "mini" / "base").eval()


MODELS: list[Callable[[], Any]] = [
    llama,
    heads_of_their_own,
    packed_llama,
    adapted_llama,
    qwen,
    mistral,
    smol,
    mini_base,
]


def drawn(
    by: Callable[..., list[list[int]]],
    model: Any,
    prompts: Sequence[list[int]] = PROMPTS,
    sampling: Sampling = SAMPLING,
    stop_ids: Sequence[int] = (2, 17, 29),
) -> list[list[int]]:
    seeds = range(100, 100 + len(prompts))
    return by(model, prompts, seeds, sampling, stop_ids=stop_ids, pad_id=0)


@pytest.mark.parametrize("make", MODELS)
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_captured_step_draws_the_tokens_of_decode_and_of_generate(
    make: Callable[[], Any], temperature: float
) -> None:
    model, sampling = make(), Sampling(temperature=temperature, max_tokens=40)
    assert can_capture(model)

    found = drawn(GraphDecoder().decode, model, sampling=sampling)

    assert found == drawn(decode, model, sampling=sampling)
    assert found == drawn(generate, model, sampling=sampling)


def test_captured_step_ends_rows_at_any_stop_token_or_at_the_limit() -> None:
    model = llama()

    found = drawn(GraphDecoder().decode, model)

    assert {row[-1] for row in found} & {2, 17, 29}
    assert all(not {2, 17, 29} & set(row[:-1]) for row in found)
    unstopped = drawn(GraphDecoder().decode, model, stop_ids=())
    assert [len(row) for row in unstopped] == [SAMPLING.max_tokens] * len(PROMPTS)
    one = Sampling(temperature=1.0, max_tokens=1)
    assert drawn(GraphDecoder().decode, model, sampling=one) == [row[:1] for row in unstopped]


def test_captured_step_draws_from_a_nucleus() -> None:
    model, sampling = llama(), Sampling(temperature=0.7, top_p=0.6, max_tokens=20)

    assert drawn(GraphDecoder().decode, model, sampling=sampling) == drawn(
        decode, model, sampling=sampling
    )


def test_kept_step_serves_smaller_batches_and_other_lengths() -> None:
    model, decoder = llama(), GraphDecoder()
    drawn(decoder.decode, model)
    kept = decoder._step
    long = [[*range(3, 50)], [6, 7]]

    for prompts in (PROMPTS[:1], PROMPTS[1:3], long, PROMPTS):
        assert drawn(decoder.decode, model, prompts) == drawn(decode, model, prompts)
        assert decoder._step is kept


def test_kept_step_gives_way_where_a_batch_does_not_fit() -> None:
    model, decoder = llama(), GraphDecoder()
    many, longer = PROMPTS * 2, [[3, *range(3, 60), *range(3, 60)], [4]]
    sizes = []

    for prompts in (PROMPTS, many, longer, PROMPTS):
        assert drawn(decoder.decode, model, prompts) == drawn(decode, model, prompts)
        assert decoder._step
        sizes.append((decoder._step.rows, decoder._step.length))

    # 8 rows of 256 columns would be four times what the two long ones need.
    assert sizes == [(4, 128), (8, 128), (2, 256), (4, 256)]
    assert decoder.bytes == 2 * 4 * 3 * 4 * 2 * 256 * 8
    decoder.free()
    assert decoder.bytes == 0


def test_kept_step_follows_weights_that_are_changed_in_place() -> None:
    model, decoder = llama(), GraphDecoder()
    before, kept = drawn(decoder.decode, model), decoder._step

    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.3)
    after = drawn(decoder.decode, model)

    assert after == drawn(decode, model) != before
    assert decoder._step is kept


def test_kept_step_gives_way_to_other_weights_and_adapters() -> None:
    model, decoder = adapted_llama(), GraphDecoder()
    drawn(decoder.decode, model)
    kept = decoder._step

    for module in model.modules():
        if hasattr(module, "base_layer"):
            module.enable_adapters(False)
    assert drawn(decoder.decode, model) == drawn(decode, model)
    assert decoder._step is not kept
    kept = decoder._step
    model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.roll(1, 0))
    assert drawn(decoder.decode, model) == drawn(decode, model)
    assert decoder._step is not kept


def test_values_that_are_not_finite_do_not_outlive_their_call() -> None:
    model, decoder = llama(), GraphDecoder()
    drawn(decoder.decode, model)
    assert decoder._step
    for keys, values in decoder._step.cache.layers:
        keys.fill_(torch.nan)
        values.fill_(torch.nan)

    assert drawn(decoder.decode, model) == drawn(decode, model)


def test_step_in_mixed_precision_follows_weights_too() -> None:
    """Not to the token: some processors round bfloat16 otherwise with the step's longer cache."""
    model, decoder = llama(), GraphDecoder()
    model.forward = torch.autocast("cpu", torch.bfloat16)(model.forward)
    before: list[list[int]] = []
    for factor in (1.0, -1.0):
        with torch.no_grad():
            model.lm_head.weight.mul_(factor)
        found = drawn(decoder.decode, model)
        assert agreement(found, drawn(decode, model)) > 0.5
        assert agreement(found, before) < 0.2  # as a step with the weights of before would
        before = found


def agreement(found: list[list[int]], expected: list[list[int]]) -> float:
    """The share of tokens before the first one that differs."""
    same = 0
    for one, other in zip(found, expected, strict=False):
        pairs = zip(one, other, strict=False)
        same += sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
    return same / sum(map(len, found))


def test_capture_that_fails_is_told_once_and_done_without(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def load(*args: Any) -> None:
        try:
            raise ValueError("no capture")
        finally:
            raise RuntimeError("ended")

    monkeypatch.setattr(Step, "load", load)
    model, decoder = llama(), GraphDecoder()

    with caplog.at_level(logging.WARNING):
        assert drawn(decoder.decode, model) == drawn(decode, model)
        assert drawn(decoder.decode, model) == drawn(decode, model)

    assert [record.getMessage() for record in caplog.records] == [
        "no CUDA graph of a decoding step, going on without: ValueError: no capture"
    ]
    assert decoder.bytes == 0


def test_check_tells_a_replay_that_differs(monkeypatch: pytest.MonkeyPatch) -> None:
    model, decoder = llama(), GraphDecoder()
    drawn(decoder.decode, model)
    step = decoder._step
    assert step
    tokens = torch.tensor([3, 4, 5, 6])
    column = step.cache.column.item()

    step.check(model, tokens)
    assert step.cache.column.item() == column

    wrong = step.run(model, tokens) * 1.2
    monkeypatch.setattr(Step, "run", lambda *args: wrong)
    with pytest.raises(RuntimeError, match="differs"):
        step.check(model, tokens)


def test_models_whose_steps_differ_by_length_are_not_captured() -> None:
    dynamic = llama(rope_parameters={"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4})
    eager = llama()
    eager.set_attn_implementation("eager")
    split = llama()
    split.hf_device_map = {"": 0}

    assert not any(map(can_capture, (dynamic, eager, split)))
