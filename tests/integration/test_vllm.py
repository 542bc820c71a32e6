"""A real vLLM engine in this process, beside `transformers` on the same model."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from raft_core.config import ModelRef
from raft_core.engines import open_generator
from raft_core.engines.base import (
    Completion,
    GenerationRequest,
    Generator,
    Sampling,
    TransformersConfig,
    VllmConfig,
)
from raft_core.engines.chat import encode_prompt, load_tokenizer
from raft_core.mini.world import general_rows
from raft_core.runtime import RuntimeConfig, VllmRuntime

MODEL = ModelRef(path="mini:base")
RUNTIME = RuntimeConfig(
    device="cpu", vllm=VllmRuntime(enforce_eager=True, max_num_batched_tokens=4096)
)
QUESTIONS = [row["question"] for row in general_rows()[:24]]
GREEDY = Sampling(max_tokens=32)
WARM = Sampling(temperature=1.5, max_tokens=32)


@pytest.fixture(scope="module")
def vllm() -> Iterator[Generator]:
    generator = open_generator(VllmConfig(model=MODEL, dtype="float32", max_model_len=384), RUNTIME)
    yield generator
    generator.close()


def ask(generator: Generator, sampling: Sampling, questions: list[str]) -> list[Completion]:
    requests = [GenerationRequest(q, seed=QUESTIONS.index(q)) for q in questions]
    return generator.generate(requests, sampling)


def test_vllm_greedy_equals_transformers_token_for_token(vllm: Generator) -> None:
    plain = open_generator(TransformersConfig(model=MODEL, dtype="float32"), RUNTIME)
    ours, theirs = ask(vllm, GREEDY, QUESTIONS), ask(plain, GREEDY, QUESTIONS)
    assert [c.token_ids for c in ours] == [c.token_ids for c in theirs]
    assert [c.text for c in ours] == [c.text for c in theirs]
    assert {c.finish_reason for c in ours} == {"stop"}


def test_vllm_seeded_answer_does_not_depend_on_its_batch(vllm: Generator) -> None:
    together = ask(vllm, WARM, QUESTIONS)
    alone = [ask(vllm, WARM, [question])[0] for question in QUESTIONS[:6]]
    assert alone == together[:6]
    assert ask(vllm, WARM, QUESTIONS[::-1]) == together[::-1]


def test_vllm_completion_carries_its_token_ids_with_the_stop_token(vllm: Generator) -> None:
    tokenizer = load_tokenizer(MODEL)
    completion = ask(vllm, GREEDY, QUESTIONS[:1])[0]
    assert completion.token_ids[-1] == tokenizer.eos_token_id
    text = tokenizer.decode(completion.token_ids, skip_special_tokens=True)
    assert text.strip() == completion.text


def test_vllm_length_limit_is_told(vllm: Generator) -> None:
    completion = ask(vllm, Sampling(max_tokens=2), QUESTIONS[:1])[0]
    assert (completion.finish_reason, len(completion.token_ids)) == ("length", 2)


def test_vllm_choices_restrict_the_answer(vllm: Generator) -> None:
    requests = [GenerationRequest(question, seed=1) for question in QUESTIONS[:4]]
    choices = ("correct", "incorrect", "cannot tell")
    completions = vllm.generate(requests, Sampling(max_tokens=16), choices=choices)
    assert {completion.text for completion in completions} <= set(choices)


def test_vllm_prompt_over_the_models_length_costs_its_request_alone(vllm: Generator) -> None:
    requests = [GenerationRequest("long " * 600), GenerationRequest(QUESTIONS[0])]
    long, short = vllm.generate(requests, GREEDY)
    assert (long.finish_reason, long.text) == ("too_long", "")
    assert "the model takes 384" in long.error
    assert short.finish_reason == "stop"


def test_vllm_progress_counts_every_request(vllm: Generator) -> None:
    done: list[int] = []
    vllm.generate([GenerationRequest(q) for q in QUESTIONS], GREEDY, on_done=done.append)
    assert sum(done) == len(QUESTIONS)


def test_vllm_no_requests_no_completions(vllm: Generator) -> None:
    assert vllm.generate([], GREEDY) == []


def test_prompt_ids_are_those_of_the_chat_template() -> None:
    tokenizer = load_tokenizer(MODEL)
    assert tokenizer.decode(encode_prompt(tokenizer, "Hi")) == "<|user|>Hi<|assistant|>"
