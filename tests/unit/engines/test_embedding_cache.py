"""Vectors on disk: a text is embedded once, whatever was killed or broken in between."""

from __future__ import annotations

import hashlib
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from raft_core.config.runtime import RuntimeConfig
from raft_core.engines.base import EmbedderConfig
from raft_core.engines.embedding_cache import FLUSH_VECTORS, CachedEmbedder, EmbeddingCache
from raft_core.execution.progress import Progress
from raft_core.execution.stage import StageRun

ROOT = Path(__file__).resolve().parents[3]
CONFIG = EmbedderConfig(model={"path": "mini:base"})
BATCH = 64


def vector_of(text: str) -> np.ndarray[Any, Any]:
    numbers = np.frombuffer(hashlib.sha256(text.encode()).digest(), dtype=np.uint8)
    return (numbers / np.linalg.norm(numbers.astype(float))).astype(np.float32)


class Hashing:
    """Gives batches from the last text to the first; remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.opened = 0

    def open(self) -> Hashing:
        self.opened += 1
        return self

    def batches(self, texts: Sequence[str]) -> Iterator[tuple[list[int], np.ndarray[Any, Any]]]:
        backwards = list(range(len(texts)))[::-1]
        for start in range(0, len(texts), BATCH):
            positions = backwards[start : start + BATCH]
            self.asked += [texts[p] for p in positions]
            yield positions, np.stack([vector_of(texts[p]) for p in positions])


def stage_of(folder: Path, **runtime: Any) -> StageRun:
    progress = Progress(folder / "events.jsonl")
    return StageRun(None, {}, folder, folder, RuntimeConfig(**runtime), progress)


@pytest.fixture
def encoder() -> Hashing:
    return Hashing()


@pytest.fixture
def stage(tmp_path: Path) -> StageRun:
    return stage_of(tmp_path)


def embed(encoder: Hashing, stage: StageRun, texts: Sequence[str]) -> np.ndarray[Any, Any]:
    """As another stage would: with a new embedder."""
    return CachedEmbedder(CONFIG, encoder.open, stage).embed(texts)


def expected(texts: Sequence[str]) -> np.ndarray[Any, Any]:
    return np.stack([vector_of(text) for text in texts])


def test_embeddings_only_missing_texts_are_embedded_and_rows_keep_their_order(
    encoder: Hashing, stage: StageRun
) -> None:
    np.testing.assert_array_equal(embed(encoder, stage, ["a", "b"]), expected(["a", "b"]))
    encoder.asked.clear()
    texts = ["c", "b", "c", "ü", "a", "b"]
    np.testing.assert_array_equal(embed(encoder, stage, texts), expected(texts))
    assert sorted(encoder.asked) == ["c", "ü"]


def test_embeddings_nothing_missing_opens_no_encoder(encoder: Hashing, stage: StageRun) -> None:
    cold = embed(encoder, stage, ["a", "b"])
    warm = embed(encoder, stage, ["a", "b"])
    assert encoder.opened == 1
    np.testing.assert_array_equal(cold, warm)
    assert warm.dtype == np.float32
    warm += 1  # the caller's own


def test_embeddings_of_no_text_are_no_rows(encoder: Hashing, stage: StageRun) -> None:
    assert len(embed(encoder, stage, [])) == 0
    assert encoder.opened == 0


def test_embeddings_switched_off_embed_again_and_write_nothing(
    encoder: Hashing, tmp_path: Path
) -> None:
    stage = stage_of(tmp_path, cache_embeddings=False)
    for _ in range(2):
        np.testing.assert_array_equal(embed(encoder, stage, ["a", "a"]), expected(["a", "a"]))
    assert encoder.asked == ["a", "a"]
    assert not stage.runtime.embeddings_file.exists()


KILLED = """
import os, signal, sys
from pathlib import Path
from tests.unit.engines.test_embedding_cache import BATCH, FLUSH_VECTORS, Hashing, embed, stage_of

class Killed(Hashing):
    def batches(self, texts):
        for batch in super().batches(texts):
            if len(self.asked) > FLUSH_VECTORS + 2 * BATCH:
                os.kill(os.getpid(), signal.SIGKILL)
            yield batch

embed(Killed(), stage_of(Path(sys.argv[1])), [f"t{n}" for n in range(1000)])
"""


def test_embeddings_killed_stage_goes_on_from_its_last_flush(
    encoder: Hashing, stage: StageRun, tmp_path: Path
) -> None:
    command = [sys.executable, "-c", KILLED, str(tmp_path)]
    assert subprocess.run(command, cwd=ROOT, timeout=120).returncode == -signal.SIGKILL
    texts = [f"t{n}" for n in range(1000)]
    np.testing.assert_array_equal(embed(encoder, stage, texts), expected(texts))
    assert len(encoder.asked) == 1000 - FLUSH_VECTORS


def no_database(file: Path) -> None:
    file.write_bytes(b"broken" * 1000)


def one_bit_of_a_vector(file: Path) -> None:
    with sqlite3.connect(file) as database:
        stored = bytearray(database.execute("SELECT vector FROM embeddings").fetchone()[0])
        stored[0] ^= 1
        database.execute("UPDATE embeddings SET vector = ?", (bytes(stored),))


@pytest.mark.parametrize("damage", [no_database, one_bit_of_a_vector])
def test_embeddings_damaged_file_costs_embedding_again_and_a_note(
    encoder: Hashing, stage: StageRun, damage: Callable[[Path], None]
) -> None:
    embed(encoder, stage, ["a"])
    file = stage.runtime.embeddings_file
    damage(file)
    if damage is no_database:
        for suffix in ("-wal", "-shm"):
            Path(f"{file}{suffix}").unlink(missing_ok=True)
    for _ in range(2):
        np.testing.assert_array_equal(embed(encoder, stage, ["a"]), expected(["a"]))
    assert encoder.asked == ["a", "a"]
    told = "moved aside" if damage is no_database else "cannot be read"
    assert (stage.out / "events.jsonl").read_text().count(told) == 1


def test_embeddings_where_no_file_can_be_are_made_and_noted(
    encoder: Hashing, stage: StageRun
) -> None:
    stage.runtime.embeddings_file.parent.parent.mkdir(parents=True, exist_ok=True)
    stage.runtime.embeddings_file.parent.write_text("no folder")
    np.testing.assert_array_equal(embed(encoder, stage, ["a"]), expected(["a"]))
    assert "not cached" in (stage.out / "events.jsonl").read_text()


def test_key_forks_with_text_model_length_and_release(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def key(config: EmbedderConfig = CONFIG, text: str = "a") -> bytes:
        return EmbeddingCache(tmp_path / "e.sqlite", config, pytest.fail).key(text)

    others = [
        EmbedderConfig(model={"path": "mini:peer"}),
        EmbedderConfig(model={"path": "mini:base"}, max_tokens=9),
    ]
    keys = {key(), key(text="b"), *map(key, others)}
    monkeypatch.setattr("raft_core.store.keyed_file.version", lambda package: "0.0")
    assert len(keys | {key()}) == 5
