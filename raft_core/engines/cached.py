"""The engine that a stage uses: looks up what was generated before, generates the rest."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from raft_core.engines.base import (
    Completion,
    Engine,
    FeedingEngine,
    FollowUp,
    GenerationRequest,
    GeneratorConfig,
    JsonSchema,
    OnCompletion,
    OpenAIConfig,
    Sampling,
)
from raft_core.engines.cache import CompletionCache, request_keys
from raft_core.execution.progress import Progress
from raft_core.execution.stage import StageRun

# The most that a killed stage generates again. Engines report each completion while the others go
# on, so a flush leaves no batch empty; it takes about 3 ms, 0.2 ms of which are the commit.
FLUSH_COMPLETIONS = 32
KEPT = ("stop", "length")
Known = dict[bytes, Completion]
LookUp = Callable[[Sequence[GenerationRequest]], tuple[list[bytes], Known]]


class Asked:
    """All requests of one call and what is known of them; more come while others are answered.

    `sent` of them went to the engine; they are numbered in this order.
    """

    def __init__(
        self,
        look_up: LookUp,
        on_done: Callable[[int], None] | None,
        on_completion: OnCompletion | None,
        progress: Progress,
    ) -> None:
        self._look_up, self._progress = look_up, progress
        self._on_done, self._on_completion = on_done, on_completion
        self._keys: list[bytes] = []
        self._known: Known = {}
        self._waiting: dict[bytes, list[int]] = {}
        self._sent: list[bytes] = []

    @property
    def sent(self) -> int:
        """Number of requests that went to the engine."""
        return len(self._sent)

    def key(self, number: int) -> bytes:
        """Return the cache key of the request that was sent under this number."""
        return self._sent[number]

    def add(self, requests: Sequence[GenerationRequest]) -> list[GenerationRequest]:
        """Register requests; return those that neither the cache nor this call knows."""
        keys, found = self._look_up(requests)
        first, missing = len(self._keys), []
        self._keys += keys
        self._known |= found
        for position, (key, request) in enumerate(zip(keys, requests, strict=True), first):
            if key in self._known:
                continue
            if key not in self._waiting:
                self._sent.append(key)
                missing.append(request)
            self._waiting.setdefault(key, []).append(position)
        cached = len(requests) - len(missing)
        self._progress.generation(requests=len(requests), cached=cached)
        self._tell([p for p, key in enumerate(keys, first) if key in self._known])
        return missing

    def more(self, follow_up: FollowUp, idle: bool) -> list[GenerationRequest]:
        """Return further requests that are unknown; when idle, ask until one is or none come."""
        while requests := follow_up(idle):
            if (missing := self.add(requests)) or not idle:
                return missing
        return []

    def answer(self, number: int, completion: Completion) -> None:
        """Store the engine's completion of the request that was sent under this number."""
        key = self._sent[number]
        self._known[key] = completion
        self._tell(self._waiting.pop(key))

    def completions(self) -> list[Completion]:
        """Return all completions, in the order in which their requests were added."""
        return [self._known[key] for key in self._keys]

    def _tell(self, positions: Sequence[int]) -> None:
        if self._on_done:
            self._on_done(len(positions))
        if self._on_completion:
            for position in positions:
                self._on_completion(position, self._known[self._keys[position]])


class CachedGenerator:
    """Generate only what no stage of this home has generated before.

    The engine is opened when a request is missing, so that a stage without one loads no model. An
    answer depends on its request alone, not on its batch: a cached completion is what would be
    generated again. On a GPU, and in less than float32, other batches may round otherwise; then the
    completion that was generated first stands.
    """

    def __init__(
        self, config: GeneratorConfig, open_engine: Callable[[], Engine], stage: StageRun
    ) -> None:
        self._config, self._open_engine, self._stage = config, open_engine, stage
        self._engine: Engine | None = None
        self._cache: CompletionCache | None = None
        if stage.runtime.cache_generations:
            self._cache = CompletionCache(stage.runtime.completions_file, stage.progress.note)

    def generate(
        self,
        requests: Sequence[GenerationRequest],
        sampling: Sampling,
        *,
        choices: Sequence[str] | None = None,
        json_schema: JsonSchema | None = None,
        on_done: Callable[[int], None] | None = None,
        on_completion: OnCompletion | None = None,
        follow_up: FollowUp | None = None,
    ) -> list[Completion]:
        """Complete every request; equal ones are generated once.

        Raises:
            EngineError: more requests failed than an endpoint may fail.
        """

        def look_up(some: Sequence[GenerationRequest]) -> tuple[list[bytes], Known]:
            keys = request_keys(self._config, some, sampling, choices, json_schema)
            return keys, self._cache.find(keys) if self._cache else {}

        asked = Asked(look_up, on_done, on_completion, self._stage.progress)
        missing = asked.add(requests)
        while missing or follow_up:
            if missing:
                self._generate(missing, asked, follow_up, sampling, choices, json_schema)
            missing = asked.more(follow_up, idle=True) if follow_up else []
            if not missing:
                break
        completions = asked.completions()
        self._require_answers(completions)
        return completions

    def _generate(
        self,
        missing: Sequence[GenerationRequest],
        asked: Asked,
        follow_up: FollowUp | None,
        sampling: Sampling,
        choices: Sequence[str] | None,
        json_schema: JsonSchema | None,
    ) -> None:
        engine = self._opened()
        unwritten: dict[bytes, Completion] = {}
        first = asked.sent - len(missing)

        def keep(position: int, completion: Completion) -> None:
            unwritten[asked.key(first + position)] = completion
            if len(unwritten) == FLUSH_COMPLETIONS:
                self._flush(unwritten)
            asked.answer(first + position, completion)

        form: dict[str, Any] = {"choices": choices, "json_schema": json_schema}
        start = time.monotonic()
        try:
            if follow_up and isinstance(engine, FeedingEngine):

                def more(idle: bool) -> list[GenerationRequest]:
                    return asked.more(follow_up, idle)

                engine.feed(missing, sampling, on_completion=keep, follow_up=more, **form)
            else:
                engine.generate(missing, sampling, on_completion=keep, **form)
        finally:
            self._flush(unwritten)
            self._stage.progress.timing("generate", time.monotonic() - start)

    def _opened(self) -> Engine:
        if self._engine is None:
            start = time.monotonic()
            self._engine = self._open_engine()
            self._stage.progress.timing("load engine", time.monotonic() - start)
        return self._engine

    def _flush(self, unwritten: dict[bytes, Completion]) -> None:
        """Write the completions to the cache and clear them; failures are not kept."""
        if self._cache:
            answers = {k: c for k, c in unwritten.items() if c.finish_reason in KEPT}
            self._cache.add({k: c for k, c in answers.items() if not c.error})
        if unwritten:
            self._stage.progress.generation(generated=len(unwritten))
        unwritten.clear()

    def _require_answers(self, completions: Sequence[Completion]) -> None:
        """Check the share of failures over all requests, cached or not.

        So a cache changes no outcome.
        """
        if isinstance(self._config, OpenAIConfig):
            from raft_core.engines.openai_answers import require_answers

            endpoint = self._stage.runtime.endpoints[self._config.endpoint]
            require_answers(completions, self._config, endpoint.max_failed_share)

    def close(self) -> None:
        """Free the model's memory, if it was loaded."""
        if self._engine is not None:
            self._engine.close()
            self._engine = None
        if self._cache is not None:
            self._cache.close()
