"""Bytes beside hand-computed ones."""

from __future__ import annotations

import json
from typing import Any

import pytest

from raft_core.cost.memory import (
    GIB,
    Memory,
    PassSize,
    Precision,
    activation_bytes,
    kv_bytes,
    layer_bytes,
    training_memory,
    transformers_room,
    vllm_room,
)
from raft_core.cost.shapes import BUILT_IN, ModelShape, shape_of
from raft_core.distill.config import DistillConfig

SHAPE = ModelShape("llama", 2, 8, 2, 1, 4, 16, 10, 32, tied=True)
SMOL = BUILT_IN["HuggingFaceTB/SmolLM3-3B"]
PASS = PassSize(
    rows=4, rollouts=4, prompt=100, completion=200, rollout=150, teacher_prompt=300, drawn=4
)
SFT_PASS = PassSize(
    rows=4, rollouts=0, prompt=100, completion=200, rollout=0, teacher_prompt=0, drawn=0
)
FLOAT32 = Precision(4, 4, 4)
SMALL = {
    "vocab_size": 120,
    "hidden_size": 64,
    "intermediate_size": 176,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 256,
    "pad_token_id": 0,
}


def memory(size: PassSize = PASS, device: str = "cuda", **changes: Any) -> Memory:
    processes = changes.pop("processes", 1)
    return training_memory(
        SMOL,
        DistillConfig.model_validate(changes),
        size,
        device=device,
        processes=processes,
    )


def test_full_training_takes_sixteen_bytes_a_parameter() -> None:
    held = memory(SFT_PASS)
    states = held.resident["weights"] + held.resident["optimizer"]
    assert states + held.phases["step"]["gradients"] == 16 * SMOL.parameters


def test_teacher_is_a_copy_in_the_type_of_arithmetic() -> None:
    assert memory().resident["teacher"] == 2 * SMOL.parameters
    assert memory(dtype="float32").resident["teacher"] == 4 * SMOL.parameters
    assert "teacher" not in memory(SFT_PASS).resident


def test_adapter_holds_one_frozen_base_and_teaches_without_a_copy() -> None:
    held = memory(adapter={"rank": 16})
    trained = SMOL.adapter_parameters(16)
    assert held.resident["weights"] == 2 * SMOL.parameters
    assert held.resident["adapter"] == 4 * trained
    assert held.resident["optimizer"] == 8 * trained
    assert "teacher" not in held.resident


def test_processes_split_what_is_held() -> None:
    one, four = memory(), memory(processes=4)
    for part in ("weights", "optimizer", "teacher"):
        assert four.resident[part] == one.resident[part] / 4
    assert four.resident["gathered layers"] > 0


def test_autocast_keeps_cast_weights_and_the_cpu_none() -> None:
    assert memory().phases["step"]["cast weights"] == 2 * SMOL.parameters
    assert "cast weights" not in memory(device="cpu").phases["step"]
    assert "cast weights" not in memory(dtype="float32").phases["step"]


def test_layer_keeps_norms_attention_and_mlp() -> None:
    # float32: norms 2 * 8 * (4 + 4 + 4) = 192; attention 5 * 8 * 4 = 160; MLP 4 * 16 * 4 = 256
    assert layer_bytes(SHAPE, FLOAT32) == 608


@pytest.mark.parametrize("adapter", [False, True])
@pytest.mark.parametrize("family", ["llama", "qwen3", "smollm3", "phi3"])
def test_layer_keeps_what_autograd_saves(family: str, adapter: bool) -> None:
    (small, config), (large, _) = (saved_bytes(family, layers, adapter) for layers in (2, 3))
    shape = shape_of(config)
    assert shape is not None
    assert layer_bytes(shape, FLOAT32, adapter) == pytest.approx(large - small, rel=0.1)


def saved_bytes(family: str, layers: int, adapter: bool) -> tuple[float, dict[str, Any]]:
    """What autograd keeps of each of 128 tokens, and the network's config.json."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.for_model(family, **SMALL, num_hidden_layers=layers)
    network = AutoModelForCausalLM.from_config(config).train()
    if adapter:
        network = get_peft_model(network, LoraConfig(r=1, target_modules="all-linear"))
    weights = {p.untyped_storage().data_ptr() for p in network.parameters()}
    saved: dict[int, torch.Tensor] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.untyped_storage().data_ptr() not in weights:
            saved[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    ids = torch.ones(4, 32, dtype=torch.long)
    mask = torch.ones_like(ids)
    mask[0, :5] = 0
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        network(input_ids=ids, attention_mask=mask, logits_to_keep=1, use_cache=False)
        total = sum(tensor.untyped_storage().nbytes() for tensor in saved.values())
    return total / 128, json.loads(config.to_json_string())


def test_checkpointing_keeps_each_layers_input_and_one_layer() -> None:
    whole = activation_bytes(SHAPE, 100, FLOAT32, checkpointing=False)
    least = activation_bytes(SHAPE, 100, FLOAT32, checkpointing=True)
    assert whole == 100 * 2 * 608
    assert least == 100 * (2 * 8 * 4 + 608)


def test_kv_cache_of_one_token() -> None:
    # keys and values, 2 layers, 1 head of 4, 2 bytes
    assert kv_bytes(SHAPE, 2) == 32
    # 36 layers * 2 * 512 * 2 bytes = 72 KiB a token
    assert kv_bytes(SMOL, 2) == 72 * 1024


def test_rollouts_hold_their_cache_for_every_row() -> None:
    held = memory(dtype="float32", gradient_accumulation=1)
    # 4 rows of 100 + 150 tokens, float32
    assert held.phases["rollouts"] == {"KV cache": 4 * 250 * 144 * 1024}


def test_pass_holds_packed_rows() -> None:
    # 4 answers of 100 + 200 and 4 rollouts of 100 + 150 tokens
    assert PASS.student_tokens == 2200
    assert PASS.scored == 1400


def test_peak_is_the_widest_phase_beside_what_stays() -> None:
    held = Memory({"weights": 10}, {"a": {"x": 5}, "b": {"x": 3, "y": 4}})
    assert (held.peak, held.widest) == (17, "b")
    assert held.parts == {"weights": 10, "x": 3, "y": 4}


def test_vllm_on_a_gpu_fills_its_share() -> None:
    room = vllm_room(SMOL, 2, device="cuda", share_bytes=70 * GIB, cache_bytes=0)
    assert room.memory.peak == 70 * GIB
    assert room.cached_tokens == (70 * GIB - 2 * SMOL.parameters - 2 * GIB) / (72 * 1024)


def test_vllm_on_the_cpu_takes_its_stated_cache() -> None:
    room = vllm_room(SHAPE, 4, device="cpu", share_bytes=None, cache_bytes=GIB)
    assert room.memory.resident["KV cache"] == GIB
    assert room.memory.resident["weights"] == 4 * SHAPE.parameters


def test_transformers_holds_one_padded_batch() -> None:
    room = transformers_room(SHAPE, 4, batch=8, longest=50, device="cpu")
    assert room.memory.resident["KV cache"] == 8 * 50 * 64
