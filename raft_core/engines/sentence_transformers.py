"""A sentence-transformers encoder whose vector of a text does not depend on the texts beside it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from raft_core.config.runtime import RuntimeConfig
from raft_core.engines.base import EmbedderConfig
from raft_core.engines.chat import loading

SORTED_TEXTS = 32_768  # texts among which equal lengths are gathered
TOKENIZED_TEXTS = 1024
# BLAS rounds products of few rows (up to 12 were seen) in another way than those of many: a batch
# with fewer tokens than this repeats its texts.
LEAST_TOKENS = 32


class SentenceTransformerEncoder:
    """Encode batches of texts with equally many tokens: padding would move a vector by about 1e-7.

    So on a CPU a text has the same vector alone, in any batch, and with any number of threads.
    """

    def __init__(self, config: EmbedderConfig, runtime: RuntimeConfig) -> None:
        from sentence_transformers import SentenceTransformer

        self._batch_size = runtime.embed_batch_size
        with loading(config.model):
            self._model = SentenceTransformer(
                config.model.resolve(),
                revision=config.model.revision,
                device=runtime.torch_device(),
                trust_remote_code=False,
            )
        self._model.max_seq_length = config.max_tokens

    def batches(self, texts: Sequence[str]) -> Iterator[tuple[list[int], np.ndarray[Any, Any]]]:
        """Yield positions of some texts and their unit vectors, float32 [B, D]."""
        for start in range(0, len(texts), SORTED_TEXTS):
            some = texts[start : start + SORTED_TEXTS]
            by_length: dict[int, list[int]] = {}
            for position, length in enumerate(self._lengths(some)):
                by_length.setdefault(length, []).append(start + position)
            for length, positions in sorted(by_length.items()):
                for begin in range(0, len(positions), self._batch_size):
                    batch = positions[begin : begin + self._batch_size]
                    yield batch, self._encode([texts[p] for p in batch], length)

    def _lengths(self, texts: Sequence[str]) -> Iterator[int]:
        """Yield each text's tokens as the encoder counts them, cut and with special tokens."""
        for start in range(0, len(texts), TOKENIZED_TEXTS):
            features = self._model.preprocess(list(texts[start : start + TOKENIZED_TEXTS]))
            yield from features["attention_mask"].sum(dim=1).tolist()

    def _encode(self, texts: list[str], length: int) -> np.ndarray[Any, Any]:
        repeats = math.ceil(LEAST_TOKENS / (len(texts) * max(1, length)))
        vectors = self._model.encode(
            texts * repeats,
            batch_size=len(texts) * repeats,
            normalize_embeddings=True,
            show_progress_bar=False,
        )
        return np.asarray(vectors, dtype=np.float32)[: len(texts)]
