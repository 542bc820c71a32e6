"""A real vLLM engine in this process, beside `transformers` on the same model."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from raft_core.config import ModelRef
from raft_core.documents.structured import VERDICT_SCHEMA, pairs_schema, read_verdict
from raft_core.engines import open_engine
from raft_core.engines.base import (
    Completion,
    Engine,
    GenerationRequest,
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
def vllm() -> Iterator[Engine]:
    engine = open_engine(VllmConfig(model=MODEL, dtype="float32", max_model_len=384), RUNTIME)
    yield engine
    engine.close()


def ask(engine: Engine, sampling: Sampling, questions: list[str]) -> list[Completion]:
    requests = [GenerationRequest(q, seed=QUESTIONS.index(q)) for q in questions]
    return engine.generate(requests, sampling)


def test_vllm_greedy_equals_transformers_token_for_token(vllm: Engine) -> None:
    plain = open_engine(TransformersConfig(model=MODEL, dtype="float32"), RUNTIME)
    ours, theirs = ask(vllm, GREEDY, QUESTIONS), ask(plain, GREEDY, QUESTIONS)
    assert [c.token_ids for c in ours] == [c.token_ids for c in theirs]
    assert [c.text for c in ours] == [c.text for c in theirs]
    assert {c.finish_reason for c in ours} == {"stop"}


def test_vllm_seeded_answer_does_not_depend_on_its_batch(vllm: Engine) -> None:
    together = ask(vllm, WARM, QUESTIONS)
    alone = [ask(vllm, WARM, [question])[0] for question in QUESTIONS[:6]]
    assert alone == together[:6]
    assert ask(vllm, WARM, QUESTIONS[::-1]) == together[::-1]


def test_vllm_completion_carries_its_token_ids_with_the_stop_token(vllm: Engine) -> None:
    tokenizer = load_tokenizer(MODEL)
    completion = ask(vllm, GREEDY, QUESTIONS[:1])[0]
    assert completion.token_ids[-1] == tokenizer.eos_token_id
    text = tokenizer.decode(completion.token_ids, skip_special_tokens=True)
    assert text.strip() == completion.text


def test_vllm_length_limit_is_told(vllm: Engine) -> None:
    completion = ask(vllm, Sampling(max_tokens=2), QUESTIONS[:1])[0]
    assert (completion.finish_reason, len(completion.token_ids)) == ("length", 2)


def test_vllm_choices_restrict_the_answer(vllm: Engine) -> None:
    requests = [GenerationRequest(question, seed=1) for question in QUESTIONS[:4]]
    choices = ("correct", "incorrect", "cannot tell")
    completions = vllm.generate(requests, Sampling(max_tokens=16), choices=choices)
    assert {completion.text for completion in completions} <= set(choices)


def test_vllm_json_schema_is_the_form_of_every_finished_answer(vllm: Engine) -> None:
    requests = [GenerationRequest(question, seed=1) for question in QUESTIONS[:4]]
    completions = vllm.generate(requests, Sampling(max_tokens=160), json_schema=VERDICT_SCHEMA)
    assert {completion.finish_reason for completion in completions} == {"stop"}
    for completion in completions:
        assert set(read_verdict(completion.text).values()) <= {"yes", "no", "cannot_tell"}
    (begun,) = vllm.generate(requests[:1], Sampling(max_tokens=40), json_schema=pairs_schema(2))
    assert begun.text.startswith('{"pairs":[')


def test_vllm_prompt_over_the_models_length_costs_its_request_alone(vllm: Engine) -> None:
    requests = [GenerationRequest("long " * 600), GenerationRequest(QUESTIONS[0])]
    long, short = vllm.generate(requests, GREEDY)
    assert (long.finish_reason, long.text) == ("too_long", "")
    assert "the model takes 384" in long.error
    assert short.finish_reason == "stop"


def test_vllm_tells_of_every_completion_while_the_others_go_on(vllm: Engine) -> None:
    told: dict[int, Completion] = {}
    requests = [GenerationRequest(q) for q in (*QUESTIONS, "long " * 600)]

    def note(position: int, completion: Completion) -> None:
        assert position not in told
        told[position] = completion

    completions = vllm.generate(requests, GREEDY, on_completion=note)
    assert completions == [told[position] for position in range(len(requests))]
    # The prompt that does not fit is told of first, then short answers before long ones.
    lengths = [len(completion.token_ids) for completion in told.values()]
    assert lengths == sorted(lengths)


def test_vllm_no_requests_no_completions(vllm: Engine) -> None:
    assert vllm.generate([], GREEDY) == []


def test_prompt_ids_are_those_of_the_chat_template() -> None:
    tokenizer = load_tokenizer(MODEL)
    assert tokenizer.decode(encode_prompt(tokenizer, "Hi")) == "<|user|>Hi<|assistant|>"
