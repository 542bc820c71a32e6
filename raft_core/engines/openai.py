"""An OpenAI-compatible endpoint (vLLM's own server among them), for fusion models and judges."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from raft_core.engines.base import (
    Completion,
    FinishReason,
    GenerationRequest,
    OpenAIConfig,
    Sampling,
    failed,
)
from raft_core.errors import EngineError, InputError
from raft_core.runtime import RuntimeConfig


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
        api_key = "none" if endpoint.api_key_env is None else os.environ.get(endpoint.api_key_env)
        if not api_key:
            raise InputError(
                f"endpoint '{config.endpoint}': the environment variable "
                f"{endpoint.api_key_env} is not set"
            )
        self._config, self._endpoint, self._name = config, endpoint, config.endpoint
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
        on_done: Callable[[int], None] | None = None,
    ) -> list[Completion]:
        def answer(request: GenerationRequest) -> Completion:
            completion = self._answer(request, sampling, choices)
            if on_done:
                on_done(1)
            return completion

        with ThreadPoolExecutor(self._endpoint.concurrency) as pool:
            completions = list(pool.map(answer, requests))
        self._require_answers(completions)
        return completions

    def _require_answers(self, completions: Sequence[Completion]) -> None:
        """A few failed requests cost their rows; an endpoint that is away costs the stage.

        Raises:
            EngineError: more than `max_failed_share` of the requests failed.
        """
        errors = [c.error for c in completions if c.finish_reason == "error"]
        if len(errors) > self._endpoint.max_failed_share * len(completions):
            raise EngineError(
                f"endpoint '{self._name}', model '{self._config.model}': {len(errors)} of "
                f"{len(completions)} requests failed, the first with {errors[0]}. Nothing was "
                "kept; mend the endpoint and run again, or raise its max_failed_share"
            )

    def close(self) -> None:
        self._client.close()

    def _answer(
        self, request: GenerationRequest, sampling: Sampling, choices: Sequence[str] | None
    ) -> Completion:
        from openai import OpenAIError

        extra = dict(self._config.extra_body)
        if self._config.vllm_extensions:
            extra["return_token_ids"] = True
        if self._config.vllm_extensions and choices:
            extra["structured_outputs"] = {"choice": list(choices)}
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
        except OpenAIError as error:
            return failed(f"{type(error).__name__}: {error}"[:300])
        if not response.choices:
            return failed("the endpoint returned no choice")
        choice = response.choices[0]
        token_ids = getattr(choice, "token_ids", None) or ()
        reason: FinishReason = "length" if choice.finish_reason == "length" else "stop"
        return Completion((choice.message.content or "").strip(), tuple(token_ids), reason)
