"""Parameters counted from shapes beside the real ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from raft_core.app.model_checks import shapes_of_weights
from raft_core.config.base import ModelRef
from raft_core.cost.models import known_model
from raft_core.cost.shapes import BUILT_IN, EXACT, ModelShape, shape_of

SMALL = {
    "hidden_size": 24,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "intermediate_size": 40,
    "vocab_size": 50,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
}


def counted_weights(folder: Path) -> int:
    """Numbers in a folder's safetensors, by their headers."""
    total = 0
    for shape in shapes_of_weights(folder, str(folder)).values():
        size = 1
        for length in shape:
            size *= length
        total += size
    return total


@pytest.mark.parametrize("name", ["mini:base", "mini:peer"])
def test_embedded_model_count_equals_its_weights(name: str) -> None:
    model = known_model(ModelRef(path=name))
    assert model.shape is not None
    assert model.folder is not None
    assert model.shape.parameters == counted_weights(model.folder)


def test_hand_computed_shape() -> None:
    shape = ModelShape("llama", 2, 8, 2, 1, 4, 16, 10, 32, tied=True)
    # A layer: q 8*8, k and v 8*4 each, o 8*8, MLP 3*8*16, two norms of 8.
    # = 64 + 32 + 32 + 64 + 384 + 16 = 592
    assert shape.layer_parameters == 592
    # 2 * 592 + embeddings 10*8 + last norm 8 = 1272
    assert shape.parameters == 1272
    # Every matrix but no norm: 2 * 576
    assert shape.body_weights == 1152


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("HuggingFaceTB/SmolLM3-3B", 3_075_098_624),
        ("meta-llama/Llama-3.2-3B-Instruct", 3_212_749_824),
        ("microsoft/Phi-4-mini-instruct", 3_836_021_760),
        ("Qwen/Qwen3-32B", 32_762_123_264),
    ],
)
def test_built_in_shape_has_the_published_count(name: str, parameters: int) -> None:
    assert BUILT_IN[name].parameters == parameters


@pytest.mark.parametrize("family", sorted(EXACT))
@pytest.mark.parametrize("tied", [True, False])
def test_family_count_equals_the_network_of_transformers(family: str, tied: bool) -> None:
    network, config = network_of(family, tie_word_embeddings=tied)
    shape = shape_of(config)
    assert shape is not None
    assert shape.parameters == sum(p.numel() for p in network.parameters())


@pytest.mark.parametrize("family", ["llama", "phi3", "qwen3"])
def test_adapter_count_equals_peft(family: str) -> None:
    from peft import LoraConfig, get_peft_model

    network, config = network_of(family)
    shape = shape_of(config)
    assert shape is not None
    adapted = get_peft_model(network, LoraConfig(r=3, target_modules="all-linear"))
    trained = sum(p.numel() for p in adapted.parameters() if p.requires_grad)
    assert shape.adapter_parameters(3) == trained


def test_adapter_of_named_modules_counts_these_alone() -> None:
    shape = ModelShape("llama", 2, 8, 2, 1, 4, 16, 10, 32, tied=True)
    # rank 3 on q (8 -> 8) and v (8 -> 4), two layers: 2 * 3 * (16 + 12) = 168
    assert shape.adapter_parameters(3, ("q_proj", "v_proj")) == 168


def network_of(family: str, **changes: Any) -> tuple[Any, dict[str, Any]]:
    """A small network without storage, and what its config.json would say."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.for_model(family, **SMALL, **changes)
    with torch.device("meta"):
        network = AutoModelForCausalLM.from_config(config)
    return network, json.loads(config.to_json_string())


def test_config_without_tying_takes_the_familys_default() -> None:
    smollm3, llama = (shape_of(SMALL | {"model_type": f}) for f in ("smollm3", "llama"))
    assert smollm3 is not None
    assert llama is not None
    assert (smollm3.tied, llama.tied) == (True, False)


def test_config_of_experts_is_not_counted() -> None:
    assert shape_of(SMALL | {"model_type": "qwen3_moe", "num_experts": 8}) is None


def test_config_without_sizes_is_not_counted() -> None:
    assert shape_of({"model_type": "llama"}) is None


def test_model_that_is_not_here_says_so() -> None:
    known = known_model(ModelRef(path="HuggingFaceTB/SmolLM3-3B"))
    unknown = known_model(ModelRef(path="nobody/nothing"))
    assert known.shape == BUILT_IN["HuggingFaceTB/SmolLM3-3B"]
    assert "not on this machine" in known.source
    assert unknown.shape is None
    assert "size unknown" in unknown.told()
