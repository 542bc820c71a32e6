"""Engines: `Generator` and `Embedder` and what implements them. Heavy imports happen on opening."""

from __future__ import annotations

from raft_core.engines.base import Embedder, EmbedderConfig, Generator, GeneratorConfig
from raft_core.runtime import RuntimeConfig


def open_generator(config: GeneratorConfig, runtime: RuntimeConfig) -> Generator:
    """Load the configured engine."""
    if config.kind == "vllm":
        from raft_core.engines.vllm import VllmGenerator

        return VllmGenerator(config, runtime)
    if config.kind == "transformers":
        from raft_core.engines.transformers import TransformersGenerator

        return TransformersGenerator(config, runtime)
    from raft_core.engines.openai import OpenAIGenerator

    return OpenAIGenerator(config, runtime)


def open_embedder(config: EmbedderConfig, runtime: RuntimeConfig) -> Embedder:
    """Load the configured sentence encoder."""
    from raft_core.engines.sentence_transformers import SentenceTransformerEmbedder

    return SentenceTransformerEmbedder(config, runtime)
