"""Cache vectors of texts on disk: a text is embedded once, whatever stage or run asks for it.

The encoder is loaded when a text is missing. A vector depends on its text alone, not on the texts
beside it (`sentence_transformers.py`), so a cached one is what would be computed again; on a GPU
other batches may round the last bits otherwise, and the vector that was computed first stands.
"""

from __future__ import annotations

import hashlib
import sqlite3
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from raft_core.config.base import fingerprint
from raft_core.engines.base import EmbedderConfig, Encoder
from raft_core.execution.stage import StageRun
from raft_core.store.keyed_file import KeyedFile, digest, installed_versions

# Raise when the encoder's code gives other vectors than before.
VERSION = 1
PACKAGES = ("sentence-transformers", "transformers", "torch")
LOOKUP_TEXTS = 8192
FLUSH_VECTORS = 512  # the most that a killed stage embeds again
CHECKSUM_BYTES = 4

Vectors = np.ndarray[Any, np.dtype[np.float32]]


class EmbeddingCache:
    """Vectors by key, float32 with a checksum; a broken file costs a warning, never the stage."""

    def __init__(self, path: Path, config: EmbedderConfig, warn: Callable[[str], None]) -> None:
        self._file = KeyedFile(path, "embeddings", "vector BLOB", warn)
        self._encoder = digest(VERSION, fingerprint(config), installed_versions(PACKAGES))

    def key(self, text: str) -> bytes:
        """Return the sha256 over the encoder (model, longest text, releases) and the text."""
        return hashlib.sha256(self._encoder + text.encode("utf-8", "surrogatepass")).digest()

    def find(self, keys: Sequence[bytes]) -> dict[bytes, Vectors]:
        """Return the vectors of those keys that are known."""
        return self._file.find(keys, _parse)

    def add(self, vectors: Mapping[bytes, Vectors]) -> None:
        """Keep vectors for good."""
        self._file.add({key: _packed(vector) for key, vector in vectors.items()})

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class CachedEmbedder:
    """Embed only what no stage of this home has embedded before.

    Beside the texts it holds one array [N, D] and a block of vectors.
    """

    def __init__(
        self, config: EmbedderConfig, open_encoder: Callable[[], Encoder], stage: StageRun
    ) -> None:
        self._open_encoder = open_encoder
        self._encoder: Encoder | None = None
        self._progress = stage.progress
        self._cache: EmbeddingCache | None = None
        if stage.runtime.cache_embeddings:
            file = stage.runtime.embeddings_file
            self._cache = EmbeddingCache(file, config, stage.progress.note)

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Return unit vectors, float32 [N, D] (D is 0 without texts), embedding a text once."""
        first_row: dict[str, int] = {}
        copies = [
            (row, first)
            for row, text in enumerate(texts)
            if (first := first_row.setdefault(text, row)) != row
        ]
        rows = _Rows(len(texts))
        missing = self._find(first_row, rows)
        if missing:
            self._encode(missing, rows)
        vectors_ND = rows.vectors_ND
        for row, first in copies:
            vectors_ND[row] = vectors_ND[first]
        return vectors_ND

    def _find(self, first_row: Mapping[str, int], rows: _Rows) -> dict[str, int]:
        """Fill in the vectors that are known; return the other texts with their rows."""
        if self._cache is None:
            return dict(first_row)
        missing: dict[str, int] = {}
        texts = list(first_row)
        for start in range(0, len(texts), LOOKUP_TEXTS):
            some = texts[start : start + LOOKUP_TEXTS]
            keys = [self._cache.key(text) for text in some]
            known = self._cache.find(keys)
            for text, key in zip(some, keys, strict=True):
                if key in known:
                    rows.put(first_row[text], known[key])
                else:
                    missing[text] = first_row[text]
        return missing

    def _encode(self, missing: Mapping[str, int], rows: _Rows) -> None:
        encoder = self._opened()
        texts, unwritten = list(missing), dict[bytes, Vectors]()
        start = time.monotonic()
        try:
            for positions, vectors_BD in encoder.batches(texts):
                for position, vector in zip(positions, vectors_BD, strict=True):
                    text = texts[position]
                    rows.put(missing[text], vector)
                    if self._cache:
                        unwritten[self._cache.key(text)] = vector
                if len(unwritten) >= FLUSH_VECTORS:
                    self._flush(unwritten)
        finally:
            self._flush(unwritten)
            self._progress.timing("embed", time.monotonic() - start)

    def _opened(self) -> Encoder:
        if self._encoder is None:
            start = time.monotonic()
            self._encoder = self._open_encoder()
            self._progress.timing("load encoder", time.monotonic() - start)
        return self._encoder

    def _flush(self, unwritten: dict[bytes, Vectors]) -> None:
        if self._cache and unwritten:
            self._cache.add(unwritten)
        unwritten.clear()


class _Rows:
    """An array [N, D] that is allocated once the first vector tells D."""

    def __init__(self, count: int) -> None:
        self._count = count
        self.vectors_ND: Vectors = np.zeros((count, 0), dtype=np.float32)

    def put(self, row: int, vector: Vectors) -> None:
        if self.vectors_ND.shape[1] == 0:
            self.vectors_ND = np.empty((self._count, len(vector)), dtype=np.float32)
        self.vectors_ND[row] = vector


def _packed(vector: Vectors) -> bytes:
    content = vector.astype("<f4", copy=False).tobytes()
    return content + zlib.crc32(content).to_bytes(CHECKSUM_BYTES, "little")


def _parse(stored: bytes) -> Vectors:
    content, checksum = stored[:-CHECKSUM_BYTES], stored[-CHECKSUM_BYTES:]
    if zlib.crc32(content).to_bytes(CHECKSUM_BYTES, "little") != checksum:
        raise sqlite3.DataError("a row holds no vector")
    return np.frombuffer(content, dtype="<f4")
