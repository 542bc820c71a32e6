"""A stage's generator: what was generated before is looked up, the rest generated and kept."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence

from raft_core.engines.base import (
    Completion,
    Engine,
    GenerationRequest,
    GeneratorConfig,
    OpenAIConfig,
    Sampling,
)
from raft_core.engines.cache import CompletionCache, request_keys
from raft_core.stage import StageRun

# The most that a killed stage generates again. Engines tell of every completion while the others
# go on, so no batch runs empty for a flush; it takes about 3 ms, 0.2 of which are the commit.
FLUSH_COMPLETIONS = 32
KEPT = ("stop", "length")


class CachedGenerator:
    """Generates only what no stage of this home has generated before.

    The engine is opened when a request is missing, so that a stage without one loads no model. An
    answer depends on its request alone, not on its batch: then a found completion is what would
    be generated again. On a GPU, and in less than float32, other batches may round otherwise, and
    the completion that was generated first stands.
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
        on_done: Callable[[int], None] | None = None,
    ) -> list[Completion]:
        """Complete every request; equal ones are generated once.

        Raises:
            EngineError: more requests failed than an endpoint may fail.
        """
        keys = request_keys(self._config, requests, sampling, choices)
        known = self._cache.find(keys) if self._cache else {}
        missing = {k: r for k, r in zip(keys, requests, strict=True) if k not in known}
        found = len(requests) - len(missing)
        self._stage.progress.generation(requests=len(requests), cached=found)
        asked = Counter(keys)

        def tell(answered: Iterable[bytes]) -> None:
            if on_done:
                on_done(sum(asked[key] for key in answered))

        tell(known)
        if missing:
            known |= self._generate(missing, sampling, choices, tell)
        completions = [known[key] for key in keys]
        self._require_answers(completions)
        return completions

    def _generate(
        self,
        missing: Mapping[bytes, GenerationRequest],
        sampling: Sampling,
        choices: Sequence[str] | None,
        tell: Callable[[Iterable[bytes]], None],
    ) -> dict[bytes, Completion]:
        if self._engine is None:
            self._engine = self._open_engine()
        keys, unwritten = list(missing), dict[bytes, Completion]()

        def keep(position: int, completion: Completion) -> None:
            unwritten[keys[position]] = completion
            if len(unwritten) == FLUSH_COMPLETIONS:
                self._flush(unwritten)
            tell([keys[position]])

        try:
            completions = self._engine.generate(
                list(missing.values()), sampling, choices=choices, on_completion=keep
            )
        finally:
            self._flush(unwritten)
        return dict(zip(keys, completions, strict=True))

    def _flush(self, unwritten: dict[bytes, Completion]) -> None:
        """Write and forget them. What failed, or is no answer, is asked for again."""
        if self._cache:
            answers = {k: c for k, c in unwritten.items() if c.finish_reason in KEPT}
            self._cache.add({k: c for k, c in answers.items() if not c.error})
        if unwritten:
            self._stage.progress.generation(generated=len(unwritten))
        unwritten.clear()

    def _require_answers(self, completions: Sequence[Completion]) -> None:
        """The cache changes no outcome: the share of failures is that of all requests."""
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
