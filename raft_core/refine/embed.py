"""Stage `embed`: vectors of what the filter will compare, while other rows are being rewritten.

They go into this machine's cache of vectors, where the filter finds them. No result depends on this
stage: without it the filter embeds the same texts itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from pydantic import Field

from raft_core.data.records import Example, Rewrite, iter_records
from raft_core.engines import EmbedderConfig, open_embedder
from raft_core.execution.shards import WHOLE, Shard
from raft_core.execution.stage import Reads, Stage, StageConfig, StageRun
from raft_core.refine.filter import View, view_of

BLOCK_ROWS = 1024


class EmbedStage(StageConfig):
    """The references of all rows, or where there is an input `rewrite` the rewrites of a shard."""

    encoder: EmbedderConfig
    views: tuple[View, ...] = Field(min_length=1)
    shard: Shard = WHOLE

    def reads(self) -> Reads:
        return {"prepare": ("train.jsonl",), "rewrite": ("rewrites.jsonl",)}


EMBED = Stage("embed", 1, EmbedStage, "raft_core.refine.embed", light=True)


def run(stage: StageRun) -> None:
    """Writes counts.json alone."""
    config: EmbedStage = stage.config
    embedder = open_embedder(config.encoder, stage)
    rows, done = answers(stage), 0
    stage.progress.start("embed", 0)
    while block := list(islice(rows, BLOCK_ROWS)):
        embedder.embed([view_of(*row, view) for view in config.views for row in block])
        done += len(block)
        stage.progress.advance(len(block))
    stage.account(done, done, [])


def answers(stage: StageRun) -> Iterator[tuple[str, str]]:
    """Question and answer of every row that there is a text of."""
    examples = iter_records(stage.inputs["prepare"] / "train.jsonl", Example)
    if "rewrite" not in stage.inputs:
        yield from ((example.question, example.answer) for example in examples)
        return
    rewrites = iter_records(stage.inputs["rewrite"] / "rewrites.jsonl", Rewrite)
    for example, rewrite in zip(stage.config.shard.stream(examples), rewrites, strict=True):
        if rewrite.text:
            yield example.question, rewrite.text
