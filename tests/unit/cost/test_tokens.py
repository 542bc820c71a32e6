"""Token counts: by the tokenizer, and without it."""

from __future__ import annotations

from raft_core.config.base import ModelRef
from raft_core.cost.models import known_model
from raft_core.cost.tokens import (
    BY_CHARACTERS,
    SAMPLED,
    TEMPLATE_TOKENS,
    counter_of,
    expected_longest,
    sampled,
)
from raft_core.engines.chat import encode_prompt, load_tokenizer

BASE = ModelRef(path="mini:base")
TEXTS = ("Why is the sky blue?", "What is the court of Penzek?\nAnswer shortly.", "a")


def test_tokenizer_here_counts_as_transformers_does() -> None:
    counter, tokenizer = counter_of(known_model(BASE)), load_tokenizer(BASE)
    assert counter.source == "its tokenizer"
    for text in TEXTS:
        assert counter.prompt(text) == len(encode_prompt(tokenizer, text))
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        assert (counter.text(text), counter.answer(text)) == (len(ids), len(ids) + 1)


def test_tokenizer_away_counts_four_characters() -> None:
    counter = counter_of(known_model(ModelRef(path="HuggingFaceTB/SmolLM3-3B")))
    assert counter == BY_CHARACTERS
    assert counter.text("x" * 41) == 11
    assert counter.prompt("x" * 40) == 10 + TEMPLATE_TOKENS


def test_sample_is_all_of_few_rows_and_the_same_of_many() -> None:
    few, many = list(range(10)), list(range(5000))
    assert (sampled(few).rows, sampled(few).factor) == (few, 1)
    assert sampled(many).rows == sampled(many).rows
    assert (len(sampled(many).rows), sampled(many).factor) == (SAMPLED, 5000 / SAMPLED)


def test_longest_of_a_batch_lies_between_mean_and_maximum() -> None:
    lengths = list(range(1, 101))
    assert expected_longest(lengths, 1) < expected_longest(lengths, 8) < 100
    assert expected_longest(lengths, 100) == 100
    assert expected_longest([], 4) == 0
