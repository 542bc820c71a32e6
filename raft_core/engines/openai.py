"""An OpenAI-compatible endpoint (vLLM's own server among them), for fusion models and judges."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import Any

from raft_core.config.runtime import RuntimeConfig
from raft_core.engines.base import (
    Completion,
    GenerationRequest,
    JsonSchema,
    OnCompletion,
    OpenAIConfig,
    Sampling,
    failed,
)
from raft_core.engines.openai_answers import (
    choice_schema,
    read_answer,
    read_choice,
    require_answers,
    schema_format,
    tokens_used,
)
from raft_core.engines.openai_client import NO_KEY, endpoint_key, open_client
from raft_core.engines.openai_errors import explanation, is_too_long, patience
from raft_core.errors import EngineError, InputError
from raft_core.execution.budget import BudgetSpent, Spending


class OpenAIGenerator:
    """Ask an endpoint with bounded concurrency; its client retries, backs off and obeys a 429.

    An endpoint that no further request can move is given up: answers that are on their way are
    still delivered, then the stage ends with one error.
    """

    def __init__(
        self, config: OpenAIConfig, runtime: RuntimeConfig, spending: Spending | None = None
    ) -> None:
        if config.endpoint not in runtime.endpoints:
            raise InputError(
                f"runtime.endpoints has no '{config.endpoint}', which model '{config.model}' "
                f"wants; known: {sorted(runtime.endpoints) or 'none'}"
            )
        endpoint = runtime.endpoints[config.endpoint]
        self._config, self._endpoint = config, endpoint
        self._api_key = endpoint_key(config.endpoint, endpoint)
        self._account = (spending or Spending()).account(config.endpoint, endpoint.budget)
        self._client = open_client(config.endpoint, endpoint, self._account)
        self._keeps = runtime.cache_generations
        self._lock = threading.Lock()
        self._in_a_row = 0
        self._given_up: str | None = None

    def generate(
        self,
        requests: Sequence[GenerationRequest],
        sampling: Sampling,
        *,
        choices: Sequence[str] | None = None,
        json_schema: JsonSchema | None = None,
        on_completion: OnCompletion | None = None,
    ) -> list[Completion]:
        """Complete every request, or end with the error for which the endpoint was given up.

        Raises:
            EngineError: the endpoint was given up; what was answered is in the cache, if there is
                one.
        """
        completions: dict[int, Completion] = {}
        with self._account.waiting(), ThreadPoolExecutor(self._endpoint.concurrency) as pool:
            positions = {
                pool.submit(self._answer, request, sampling, choices, json_schema): position
                for position, request in enumerate(requests)
            }
            try:
                for answered in as_completed(positions):
                    position, completion = positions[answered], answered.result()
                    if completion is None:
                        continue
                    completions[position] = completion
                    if on_completion:
                        on_completion(position, completion)
            finally:
                pool.shutdown(wait=False, cancel_futures=True)
        if len(completions) < len(requests):
            kept = ". What was answered is kept: run again to go on"
            raise EngineError(f"{self._given_up}{kept if completions and self._keeps else ''}")
        in_order = [completions[position] for position in range(len(requests))]
        self._require_connection(in_order)
        return in_order

    def _require_connection(self, completions: Sequence[Completion]) -> None:
        """Fail the stage if no request reached the endpoint, however few the cache left for it."""
        unreached = [c for c in completions if c.error.startswith("APIConnectionError:")]
        if self._endpoint.max_failed_share < 1 and len(unreached) == len(completions):
            require_answers(completions, self._config, 0.0)

    def close(self) -> None:
        """Close the HTTP client."""
        self._client.close()

    def _answer(
        self,
        request: GenerationRequest,
        sampling: Sampling,
        choices: Sequence[str] | None,
        json_schema: JsonSchema | None,
    ) -> Completion | None:
        """Complete one request; return None if the endpoint is given up."""
        from openai import OpenAIError

        if self._given_up:
            return None
        body = request_body(self._config, request, sampling, choices, json_schema)
        try:
            response = self._client.chat.completions.create(**body)
        except EngineError as ended:  # by the client's hooks: every row would fail
            self._give_up(str(ended))
            return None
        except (OpenAIError, ValueError, RecursionError) as error:  # the last two: from the body
            return self._failed(error)
        self._in_a_row = 0
        completion = read_answer(response)
        if choices and self._config.structured == "json_schema":
            completion = read_choice(completion, choices)
        try:
            self._account.charge(tokens_used(response))
        except BudgetSpent as spent:
            self._give_up(str(spent))
        return completion

    def _failed(self, error: Exception) -> Completion | None:
        said = self._without_key(f"{type(error).__name__}: {error}")[:300]
        if is_too_long(error):
            self._in_a_row = 0
            return Completion("", (), "too_long", said)
        most = patience(error, self._endpoint.max_failed_share)
        if most is None:
            return failed(said)
        with self._lock:
            self._in_a_row += 1
            if self._in_a_row < most:
                return failed(said)
        told = explanation(error, said, self._config, self._endpoint, self._client)
        self._give_up(self._without_key(told))
        return None

    def _give_up(self, reason: str) -> None:
        """Stop asking the endpoint; the first reason is the one that counts."""
        with self._lock:
            self._given_up = self._given_up or reason

    def _without_key(self, text: str) -> str:
        """Mask the key in a message: some servers repeat a key that they refuse."""
        return text if self._api_key == NO_KEY else text.replace(self._api_key, "***")


def request_body(
    config: OpenAIConfig,
    request: GenerationRequest,
    sampling: Sampling,
    choices: Sequence[str] | None,
    json_schema: JsonSchema | None = None,
) -> dict[str, Any]:
    """Return the arguments of `chat.completions.create`; `extra_body` is what the client lacks."""
    extra = dict(config.extra_body)
    body: dict[str, Any] = {
        "model": config.model,
        "messages": [{"role": "user", "content": request.prompt}],
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "max_tokens": sampling.max_tokens,
        "seed": request.seed,
        "extra_body": extra,
    }
    if config.structured == "vllm":
        extra["return_token_ids"] = True
        if choices:
            extra["structured_outputs"] = {"choice": list(choices)}
        if json_schema:
            extra["structured_outputs"] = {"json": dict(json_schema)}
    elif config.structured == "json_schema" and (choices or json_schema):
        schema = choice_schema(choices) if choices else dict(json_schema or {})
        body["response_format"] = schema_format(schema)
    return body
