"""A real vLLM engine in this process, beside `transformers` on the same model."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from raft_core import engines
from raft_core.config.base import ModelRef
from raft_core.config.runtime import EndpointRuntime, RuntimeConfig, VllmRuntime
from raft_core.data.records import Example, read_jsonl, write_jsonl
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
from raft_core.evaluation.benchmarks.base import Response
from raft_core.evaluation.config import EvaluateStage
from raft_core.evaluation.evaluate import run
from raft_core.execution.progress import Progress
from raft_core.execution.stage import StageRun
from raft_core.mini.world import general_rows

MODEL = ModelRef(path="mini:base")
CONFIG = VllmConfig(model=MODEL, dtype="float32", max_model_len=384)
RUNTIME = RuntimeConfig(
    device="cpu", vllm=VllmRuntime(enforce_eager=True, max_num_batched_tokens=4096)
)
QUESTIONS = [row["question"] for row in general_rows()[:24]]
GREEDY = Sampling(max_tokens=32)
WARM = Sampling(temperature=1.5, max_tokens=32)


@pytest.fixture(scope="module")
def vllm() -> Iterator[Engine]:
    engine = open_engine(CONFIG, RUNTIME)
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


ROWS = 6
PANEL = [
    {"kind": "exact"},
    {"kind": "contains"},
    {
        "kind": "llm",
        "generator": CONFIG.model_dump(),
        "prompt": "judge.v1",  # the later one leaves so small a model no room to answer
        "max_tokens": 16,
    },
    {"kind": "llm", "generator": {"kind": "openai", "endpoint": "here", "model": "m"}},
]


class JudgeEndpoint(BaseHTTPRequestHandler):
    """Calls everything correct, but refuses the first row with an error."""

    def do_POST(self) -> None:
        asked = self.rfile.read(int(self.headers["Content-Length"])).decode()
        refused = "number 0?" in asked
        message = {"role": "assistant", "content": "correct"}
        said = {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}
        head = {"id": "1", "object": "chat.completion", "created": 1, "model": "m"}
        body = json.dumps({"error": {"message": "no"}} if refused else head | said).encode()
        self.send_response(400 if refused else 200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None: ...


class Kept:
    """The module's engine, which no test may close."""

    def __init__(self, engine: Engine) -> None:
        self.generate = engine.generate

    def close(self) -> None: ...


@pytest.fixture
def judged(tmp_path: Path) -> Iterator[RuntimeConfig]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), JudgeEndpoint)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}/v1"
    here = EndpointRuntime(base_url=url, max_retries=0, max_failed_share=0.5)
    yield RuntimeConfig(device="cpu", home=str(tmp_path / "home"), endpoints={"here": here})
    server.shutdown()
    server.server_close()


def test_panel_of_rules_engine_and_endpoint_every_vote_is_kept_and_none_is_lost(
    tmp_path: Path, judged: RuntimeConfig, vllm: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = engines.open_engine
    monkeypatch.setattr(
        engines,
        "open_engine",
        lambda config, *rest: Kept(vllm) if config == CONFIG else opened(config, *rest),
    )
    prepared, responded, out = (tmp_path / n for n in ("prepare", "respond", "out"))
    for folder in (prepared, responded, out):
        folder.mkdir()
    questions = [f"What is number {n}?" for n in range(ROWS)]
    write_jsonl(
        prepared / "test.jsonl",
        (Example(str(n), q, f"It is {n}.", "test", (str(n),)) for n, q in enumerate(questions)),
    )
    # Even rows say the expected string alone, odd ones another.
    write_jsonl(
        responded / "responses.jsonl",
        (
            Response("domain", str(n), q, str(n) if n % 2 == 0 else "x", "stop", 1)
            for n, q in enumerate(questions)
        ),
    )
    config = EvaluateStage(panel=PANEL, benchmarks={"domain": {"kind": "domain"}})
    inputs = {"prepare": prepared, "respond": responded}
    run(StageRun(config, inputs, out, tmp_path, judged, Progress(tmp_path / "events.jsonl")))

    votes = [row["votes"] for row in read_jsonl(out / "verdicts.jsonl")]
    names = ["exact", "contains", "llm_3", "llm_4"]
    assert [[vote["judge"] for vote in each] for each in votes] == [names] * ROWS
    by_judge = {name: [each[i]["verdict"] for each in votes] for i, name in enumerate(names)}
    assert by_judge["exact"] == by_judge["contains"] == ["correct", "incorrect"] * (ROWS // 2)
    # An engine's verdicts are constrained to their form, whatever so small a model thinks.
    assert set(by_judge["llm_3"]) <= {"correct", "incorrect", "cannot_tell"}
    assert {each[2]["detail"] for each in votes} == {""}
    assert by_judge["llm_4"] == ["cannot_tell"] + ["correct"] * (ROWS - 1)
    assert "400" in votes[0][3]["detail"]
    agreement = json.loads((out / "scores.json").read_text())["domain"]["agreement"]
    assert [judge["judge"] for judge in agreement["judges"]] == names
    assert agreement["judges"][3]["cannot_tell"] == pytest.approx(1 / ROWS)
