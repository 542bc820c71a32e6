"""A sentence-transformers encoder behind the `Embedder` protocol."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from raft_core.engines.base import EmbedderConfig
from raft_core.runtime import RuntimeConfig


class SentenceTransformerEmbedder:
    def __init__(self, config: EmbedderConfig, runtime: RuntimeConfig) -> None:
        from sentence_transformers import SentenceTransformer

        self._batch_size = runtime.embed_batch_size
        self._model = SentenceTransformer(
            config.model.resolve(),
            revision=config.model.revision,
            device=runtime.torch_device(),
        )
        self._model.max_seq_length = config.max_tokens

    def embed(self, texts: Sequence[str]) -> np.ndarray[Any, Any]:
        """Unit vectors, float32 [N, D]; each distinct text is encoded once."""
        if not texts:
            width = self._model.get_sentence_embedding_dimension()
            return np.zeros((0, width), dtype=np.float32)
        distinct = list(dict.fromkeys(texts))
        vectors = self._model.encode(
            distinct,
            batch_size=self._batch_size,
            normalize_embeddings=True,
            show_progress_bar=False,
        )
        row_of = {text: row for row, text in enumerate(distinct)}
        order = [row_of[text] for text in texts]
        return np.asarray(vectors, dtype=np.float32)[order]
