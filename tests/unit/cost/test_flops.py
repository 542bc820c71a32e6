"""Operations beside hand-computed ones."""

from __future__ import annotations

from raft_core.cost.flops import attention, forward, recomputed, trained
from raft_core.cost.shapes import BUILT_IN, ModelShape
from raft_core.cost.tokens import Reading

# Body: 2 layers of 576 = 1152 weights; output 10 * 8 = 80; query width 8.
SHAPE = ModelShape("llama", 2, 8, 2, 1, 4, 16, 10, 32, tied=True)
# Sequences of 3 and 5 tokens, of which 2 and 1 are scored: 8 tokens, 6 + 15 = 21 pairs, 3 scored.
READING = Reading.of([(3, 2), (5, 1)])


def test_reading_sums_tokens_pairs_and_scored() -> None:
    assert Reading(sequences=2, tokens=8, pairs=21, scored=3) == READING
    assert READING.times(2) == READING + READING


def test_attention_counts_every_pair_once_a_layer() -> None:
    # 4 operations * 2 layers * 8 wide * 21 pairs
    assert attention(SHAPE, READING) == 1344


def test_forward_is_two_a_weight_and_token() -> None:
    # 2 * 1152 * 8 + 1344 + 2 * 80 * 3 = 18432 + 1344 + 480
    assert forward(SHAPE, READING) == 20256


def test_training_is_three_forward_passes() -> None:
    assert trained(SHAPE, READING) == 3 * 20256


def test_training_of_an_adapter_has_no_gradients_of_frozen_weights() -> None:
    # 4 a frozen weight and token, attention three times, 6 for each of 10 adapter numbers:
    # 4 * 1152 * 8 + 4 * 80 * 3 + 3 * 1344 + 6 * 10 * 8 = 36864 + 960 + 4032 + 480
    assert trained(SHAPE, READING, adapter_parameters=10) == 42336


def test_checkpointing_computes_the_layers_again() -> None:
    assert recomputed(SHAPE, READING) == 18432 + 1344


def test_training_of_a_3b_model_is_about_six_n_a_token() -> None:
    shape = BUILT_IN["meta-llama/Llama-3.2-3B-Instruct"]
    reading = Reading.of([(512, 512)])
    assert 1.0 < trained(shape, reading) / (6 * shape.parameters * 512) < 1.05
