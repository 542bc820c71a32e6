"""An OpenAI-compatible endpoint (vLLM's own server among them), for fusion models and judges."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import Any

from raft_core.engines.base import (
    Completion,
    FinishReason,
    GenerationRequest,
    JsonSchema,
    OnCompletion,
    OpenAIConfig,
    Sampling,
    failed,
)
from raft_core.errors import EngineError, InputError
from raft_core.runtime import RuntimeConfig

NO_KEY = "none"


class OpenAIGenerator:
    """Bounded concurrency; retries with backoff are the client's own."""

    def __init__(self, config: OpenAIConfig, runtime: RuntimeConfig) -> None:
        from openai import OpenAI

        if config.endpoint not in runtime.endpoints:
            raise InputError(
                f"runtime.endpoints has no '{config.endpoint}', which model '{config.model}' "
                f"wants; known: {sorted(runtime.endpoints) or 'none'}"
            )
        endpoint = runtime.endpoints[config.endpoint]
        api_key = NO_KEY if endpoint.api_key_env is None else os.environ.get(endpoint.api_key_env)
        if not api_key:
            raise InputError(
                f"endpoint '{config.endpoint}': the environment variable "
                f"{endpoint.api_key_env} is not set"
            )
        self._config, self._endpoint, self._api_key = config, endpoint, api_key
        self._client = OpenAI(
            base_url=endpoint.base_url,
            api_key=api_key,
            timeout=endpoint.timeout_s,
            max_retries=endpoint.max_retries,
        )

    def generate(
        self,
        requests: Sequence[GenerationRequest],
        sampling: Sampling,
        *,
        choices: Sequence[str] | None = None,
        json_schema: JsonSchema | None = None,
        on_completion: OnCompletion | None = None,
    ) -> list[Completion]:
        completions: dict[int, Completion] = {}
        with ThreadPoolExecutor(self._endpoint.concurrency) as pool:
            positions = {
                pool.submit(self._answer, request, sampling, choices, json_schema): position
                for position, request in enumerate(requests)
            }
            try:
                for answered in as_completed(positions):
                    position = positions[answered]
                    completions[position] = answered.result()
                    if on_completion:
                        on_completion(position, completions[position])
            finally:
                pool.shutdown(wait=False, cancel_futures=True)
        in_order = [completions[position] for position in range(len(requests))]
        self._require_connection(in_order)
        return in_order

    def _require_connection(self, completions: Sequence[Completion]) -> None:
        """An endpoint that is away costs the stage, however few requests the cache left for it."""
        unreached = [c for c in completions if c.error.startswith("APIConnectionError:")]
        if self._endpoint.max_failed_share < 1 and len(unreached) == len(completions):
            require_answers(completions, self._config, 0.0)

    def close(self) -> None:
        self._client.close()

    def _without_key(self, text: str) -> str:
        """Some servers repeat a key that they refuse."""
        return text if self._api_key == NO_KEY else text.replace(self._api_key, "***")

    def _answer(
        self,
        request: GenerationRequest,
        sampling: Sampling,
        choices: Sequence[str] | None,
        json_schema: JsonSchema | None,
    ) -> Completion:
        from openai import OpenAIError

        extra = dict(self._config.extra_body)
        if self._config.vllm_extensions:
            extra["return_token_ids"] = True
        if self._config.vllm_extensions and choices:
            extra["structured_outputs"] = {"choice": list(choices)}
        if json_schema:
            extra |= json_form(json_schema, vllm_extensions=self._config.vllm_extensions)
        try:
            response = self._client.chat.completions.create(
                model=self._config.model,
                messages=[{"role": "user", "content": request.prompt}],
                temperature=sampling.temperature,
                top_p=sampling.top_p,
                max_tokens=sampling.max_tokens,
                seed=request.seed,
                extra_body=extra,
            )
        except (OpenAIError, ValueError) as error:  # the latter: a body that is no JSON
            return failed(self._without_key(f"{type(error).__name__}: {error}")[:300])
        return read_answer(response)


def json_form(schema: JsonSchema, *, vllm_extensions: bool) -> dict[str, Any]:
    """The fields of a request that restrict its answer to JSON of this form."""
    if vllm_extensions:
        return {"structured_outputs": {"json": dict(schema)}}
    named = {"name": "answer", "schema": dict(schema), "strict": True}
    return {"response_format": {"type": "json_schema", "json_schema": named}}


def read_answer(response: Any) -> Completion:
    """The completion of a chat response, which the client does not check.

    A refusal or an empty answer is an answer without text, with what there is to say in `error`;
    anything that is not of the chat format is a failure.
    """
    try:
        if not response.choices:
            return failed("the endpoint returned no choice")
        choice = response.choices[0]
        said, refusal = choice.message.content, getattr(choice.message, "refusal", None)
        finished = choice.finish_reason
    except (AttributeError, TypeError, KeyError):
        return failed("the endpoint's response is not of the chat format")
    if not isinstance(said, str | None):
        return failed(f"the endpoint's answer is a {type(said).__name__}, not text")
    token_ids = getattr(choice, "token_ids", None) or ()
    reason: FinishReason = "length" if finished == "length" else "stop"
    text = (said or "").strip()
    lacking = "" if text else f"refused: {refusal}"[:300] if refusal else "an empty answer"
    return Completion(text, tuple(token_ids), reason, lacking)


def require_answers(
    completions: Sequence[Completion], config: OpenAIConfig, max_failed_share: float
) -> None:
    """A few failed requests cost their rows, many cost the stage.

    Raises:
        EngineError: more than this share of the requests failed.
    """
    errors = [c.error for c in completions if c.finish_reason == "error"]
    if len(errors) > max_failed_share * len(completions):
        raise EngineError(
            f"endpoint '{config.endpoint}', model '{config.model}': {len(errors)} of "
            f"{len(completions)} requests failed, the first with {errors[0]}. Mend the endpoint "
            "and run again, or raise its max_failed_share"
        )
