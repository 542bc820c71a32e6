"""The endpoint engine against a real HTTP server on loopback."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from raft_core.config.base import fingerprint
from raft_core.config.runtime import EndpointRuntime, RuntimeConfig
from raft_core.engines import open_generator
from raft_core.engines.base import Completion, GenerationRequest, OpenAIConfig, Sampling
from raft_core.engines.openai import OpenAIGenerator, request_body
from raft_core.engines.openai_answers import read_choice
from raft_core.errors import EngineError, InputError
from raft_core.execution.progress import Progress
from raft_core.execution.stage import StageRun


class Endpoint(BaseHTTPRequestHandler):
    """Echoes the prompt; `fail` answers 500 for good, `flaky` once, `mute` gives no choice."""

    seen: list[dict[str, Any]] = []
    flaky_left = 0

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        Endpoint.seen.append(body | {"authorization": self.headers["Authorization"]})
        prompt = body["messages"][0]["content"]
        if prompt == "fail" or (prompt == "flaky" and Endpoint.flaky_left > 0):
            Endpoint.flaky_left -= prompt == "flaky"
            self._reply(500, {"error": {"message": "overloaded"}})
            return
        message = {"role": "assistant", "content": f"re: {prompt} "}
        choice = {"index": 0, "message": message, "finish_reason": "stop", "token_ids": [5, 6]}
        choices = [] if prompt == "mute" else [choice]
        head = {"id": "1", "object": "chat.completion", "created": 1, "model": body["model"]}
        self._reply(200, head | {"choices": choices})

    def _reply(self, status: int, content: dict[str, Any]) -> None:
        data = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture
def runtime() -> Iterator[RuntimeConfig]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Endpoint)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    Endpoint.seen.clear()
    url = f"http://127.0.0.1:{server.server_port}/v1"
    yield RuntimeConfig(endpoints={"here": EndpointRuntime(base_url=url, max_retries=1)})
    server.shutdown()
    server.server_close()


CONFIG = OpenAIConfig(endpoint="here", model="some-model")


def forgiving(runtime: RuntimeConfig) -> RuntimeConfig:
    """The same endpoint, which may fail as often as it likes."""
    endpoint = runtime.endpoints["here"].model_copy(update={"max_failed_share": 1.0})
    return runtime.model_copy(update={"endpoints": {"here": endpoint}})


def ask(runtime: RuntimeConfig, *prompts: str, **options: Any) -> list[Any]:
    generator = OpenAIGenerator(CONFIG, runtime)
    requests = [GenerationRequest(prompt, seed=i) for i, prompt in enumerate(prompts)]
    return generator.generate(requests, Sampling(max_tokens=9), **options)


def ask_cached(runtime: RuntimeConfig, folder: Path, *prompts: str) -> list[Completion]:
    """As a stage asks: behind the cache of the test's home."""
    stage = StageRun(None, {}, folder, folder, runtime, Progress(folder / "events.jsonl"))
    requests = [GenerationRequest(prompt) for prompt in prompts]
    return open_generator(CONFIG, stage).generate(requests, Sampling(max_tokens=9))


def test_endpoint_answers_come_in_the_order_of_requests_with_token_ids(
    runtime: RuntimeConfig,
) -> None:
    done = ask(runtime, *[f"q{i}" for i in range(20)])
    assert [c.text for c in done] == [f"re: q{i}" for i in range(20)]
    assert done[0].token_ids == (5, 6)


def test_endpoint_request_carries_seed_limits_and_choices(runtime: RuntimeConfig) -> None:
    ask(runtime, "a", choices=["yes", "no"])
    body = Endpoint.seen[0]
    assert (body["seed"], body["max_tokens"], body["temperature"]) == (0, 9, 0)
    assert body["structured_outputs"] == {"choice": ["yes", "no"]}


def test_endpoint_without_extensions_is_asked_for_a_choice_by_a_json_schema() -> None:
    config = CONFIG.model_copy(update={"structured": "json_schema"})
    body = request_body(config, GenerationRequest("a"), Sampling(), ["yes", "no"])
    schema = body["response_format"]["json_schema"]
    assert (body["response_format"]["type"], schema["strict"]) == ("json_schema", True)
    assert schema["schema"]["properties"] == {"answer": {"type": "string", "enum": ["yes", "no"]}}
    assert schema["schema"]["additionalProperties"] is False
    assert body["extra_body"] == {}
    free = request_body(config, GenerationRequest("a"), Sampling(), None)
    assert "response_format" not in free


def test_endpoint_without_structured_output_is_asked_for_plain_text() -> None:
    config = CONFIG.model_copy(update={"structured": "none"})
    body = request_body(config, GenerationRequest("a"), Sampling(), ["yes", "no"])
    assert body["extra_body"] == {}
    assert "response_format" not in body


@pytest.mark.parametrize(
    ("said", "choice"),
    [
        ('{"answer": "yes"}', "yes"),
        (' {"answer":"no"}\n', "no"),
        ('{"answer": "maybe"}', ""),
        ('{"answer": "Yes"}', ""),
        ('{"answer": ["yes"]}', ""),
        ('{"answer": "yes", "why": "so"}', ""),
        ('{"verdict": "yes"}', ""),
        ('"yes"', ""),
        ("yes", ""),
        ('```json\n{"answer": "yes"}\n```', ""),
    ],
)
def test_choice_is_read_from_exactly_the_object_that_was_asked_for(said: str, choice: str) -> None:
    read = read_choice(Completion(said, (5,), "stop"), ["yes", "no"])
    assert (read.text, read.token_ids, read.finish_reason) == (choice, (5,), "stop")
    assert (said in read.error) is not bool(choice)


def test_endpoint_identity_of_older_settings_is_what_it_was() -> None:
    older = {
        "kind": "openai", "endpoint": "here", "model": "some-model", "model_version": "",
        "extra_body": {},
    }  # fmt: skip
    kinds = {
        kind: fingerprint(CONFIG.model_copy(update={"structured": kind}))
        for kind in ("vllm", "none", "json_schema")
    }
    assert kinds["vllm"] == older | {"vllm_extensions": True}
    assert kinds["none"] == older | {"vllm_extensions": False}
    assert kinds["json_schema"] not in (kinds["vllm"], kinds["none"])


SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}


@pytest.mark.parametrize(
    ("config", "field", "sent"),
    [
        (CONFIG, "structured_outputs", {"json": SCHEMA}),
        (
            CONFIG.model_copy(update={"structured": "json_schema"}),
            "response_format",
            {
                "type": "json_schema",
                "json_schema": {"name": "answer", "schema": SCHEMA, "strict": True},
            },
        ),
    ],
)
def test_endpoint_request_carries_the_json_schema_in_the_form_that_the_server_knows(
    runtime: RuntimeConfig, config: OpenAIConfig, field: str, sent: dict[str, Any]
) -> None:
    engine = OpenAIGenerator(config, runtime)
    engine.generate([GenerationRequest("a")], Sampling(max_tokens=9), json_schema=SCHEMA)
    body = Endpoint.seen[0]
    assert body[field] == sent
    assert len({"structured_outputs", "response_format"} & body.keys()) == 1


def test_endpoint_passing_fault_is_retried(runtime: RuntimeConfig) -> None:
    Endpoint.flaky_left = 1
    assert ask(runtime, "flaky")[0].text == "re: flaky"


def test_endpoint_lasting_fault_costs_its_request_alone(runtime: RuntimeConfig) -> None:
    good, bad, mute = ask(forgiving(runtime), "q", "fail", "mute")
    assert good.finish_reason == "stop"
    assert (bad.text, bad.finish_reason) == ("", "error")
    assert "500" in bad.error
    assert (mute.finish_reason, mute.error) == ("error", "the endpoint returned no choice")


def test_endpoint_tells_of_every_completion_with_its_position(runtime: RuntimeConfig) -> None:
    told: dict[int, str] = {}

    def note(position: int, completion: Completion) -> None:
        told[position] = completion.text

    ask(runtime, *[f"q{i}" for i in range(20)], on_completion=note)
    assert told == {i: f"re: q{i}" for i in range(20)}


def test_endpoint_that_fails_too_often_is_an_error_not_a_result(
    runtime: RuntimeConfig, tmp_path: Path
) -> None:
    with pytest.raises(EngineError, match=r"'here', model 'some-model': 1 of 2 .*500"):
        ask_cached(runtime, tmp_path, "q", "fail")


def test_endpoint_failures_are_a_share_of_all_requests_found_ones_too(
    runtime: RuntimeConfig, tmp_path: Path
) -> None:
    questions = [f"q{i}" for i in range(20)]
    ask_cached(runtime, tmp_path, *questions)
    # 1 of 21 is below 5 %, though it is the only one that the endpoint is asked
    *found, bad = ask_cached(runtime, tmp_path, *questions, "fail")
    assert {c.finish_reason for c in found} == {"stop"}
    assert bad.finish_reason == "error"
    assert sum(body["messages"][0]["content"] in questions for body in Endpoint.seen) == 20


def test_endpoint_that_is_away_is_an_error_however_many_answers_were_found(
    runtime: RuntimeConfig, tmp_path: Path
) -> None:
    questions = [f"q{i}" for i in range(40)]
    ask_cached(runtime, tmp_path, *questions)
    gone = EndpointRuntime(base_url="http://127.0.0.1:9/v1", max_retries=0)
    away = runtime.model_copy(update={"endpoints": {"here": gone}})
    with pytest.raises(EngineError, match=r"1 of 1 requests failed.*Connection"):
        ask_cached(away, tmp_path, *questions, "new")


def test_endpoint_that_is_away_is_an_error_not_a_result() -> None:
    away = EndpointRuntime(base_url="http://127.0.0.1:9/v1", max_retries=0)
    with pytest.raises(EngineError, match=r"2 of 2 requests failed.*Connection"):
        ask(RuntimeConfig(endpoints={"here": away}), "a", "b")


def test_endpoint_extra_body_goes_into_the_request(runtime: RuntimeConfig) -> None:
    extra = {"chat_template_kwargs": {"enable_thinking": False}}
    config = CONFIG.model_copy(update={"extra_body": extra})
    OpenAIGenerator(config, runtime).generate([GenerationRequest("a")], Sampling())
    assert Endpoint.seen[0]["chat_template_kwargs"] == {"enable_thinking": False}


def test_endpoint_unknown_name_error_says_which_are_known(runtime: RuntimeConfig) -> None:
    with pytest.raises(InputError, match=r"no 'elsewhere'.*known: \['here'\]"):
        OpenAIGenerator(OpenAIConfig(endpoint="elsewhere", model="m"), runtime)


def test_endpoint_key_variable_not_set_error_names_it(
    runtime: RuntimeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    endpoint = EndpointRuntime(base_url="http://127.0.0.1:1/v1", api_key_env="NO_SUCH_KEY")
    with pytest.raises(InputError, match="NO_SUCH_KEY"):
        OpenAIGenerator(CONFIG, RuntimeConfig(endpoints={"here": endpoint}))
