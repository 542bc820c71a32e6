"""Engines write text, encoders make vectors; heavy imports happen on opening."""

from __future__ import annotations

from raft_core.config.runtime import RuntimeConfig
from raft_core.engines.base import (
    Embedder,
    EmbedderConfig,
    Encoder,
    Engine,
    Generator,
    GeneratorConfig,
)
from raft_core.engines.cached import CachedGenerator
from raft_core.execution.budget import Spending
from raft_core.execution.stage import StageRun

# The packages that write text.
GENERATION = ("torch", "transformers", "vllm")


def open_generator(config: GeneratorConfig, stage: StageRun) -> Generator:
    """Return the configured engine behind the cache; it loads when an answer is missing."""

    def opened() -> Engine:
        engine = open_engine(config, stage.runtime, stage.spending)
        stage.engines.append(engine)
        return engine

    return CachedGenerator(config, opened, stage)


def open_engine(
    config: GeneratorConfig, runtime: RuntimeConfig, spending: Spending | None = None
) -> Engine:
    """Load the configured engine; engines that share a budget share `spending`."""
    if config.kind == "vllm":
        from raft_core.engines.vllm import VllmGenerator

        return VllmGenerator(config, runtime)
    if config.kind == "transformers":
        from raft_core.engines.transformers import TransformersGenerator

        return TransformersGenerator(config, runtime)
    from raft_core.engines.openai import OpenAIGenerator

    return OpenAIGenerator(config, runtime, spending)


def open_embedder(config: EmbedderConfig, stage: StageRun) -> Embedder:
    """Return the configured encoder behind the cache; it loads when a text is missing."""
    from raft_core.engines.embedding_cache import CachedEmbedder

    return CachedEmbedder(config, lambda: open_encoder(config, stage.runtime), stage)


def open_encoder(config: EmbedderConfig, runtime: RuntimeConfig) -> Encoder:
    """Load the configured sentence encoder."""
    from raft_core.engines.sentence_transformers import SentenceTransformerEncoder

    return SentenceTransformerEncoder(config, runtime)
