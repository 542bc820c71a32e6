"""Stage `rewrite` (eq. 1): the base model restates each reference answer in its own words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from pydantic import Field

from raft_core.config.base import FrozenConfig
from raft_core.data.records import Example, Rewrite, iter_records, write_jsonl
from raft_core.engines import GENERATION, GeneratorConfig, open_generator
from raft_core.engines.base import GenerationRequest, Sampling, answer_text, request_seed
from raft_core.execution.shards import Shard
from raft_core.execution.stage import Reads, Stage, StageConfig, StageRun
from raft_core.prompts import PromptRef, RewritePrompt


class RewriteConfig(FrozenConfig):
    prompt: RewritePrompt = PromptRef(name="rewrite.v1")
    sampling: Sampling = Sampling(temperature=0.7, top_p=0.95, max_tokens=1024)
    rows_per_shard: Annotated[int, Field(gt=0)] = Field(
        1024, description="rows of one shard, of rewriting and of fusing"
    )


class RewriteStage(StageConfig):
    prompt: RewritePrompt
    sampling: Sampling
    generator: GeneratorConfig
    shard: Shard

    def reads(self) -> Reads:
        return {"prepare": ("train.jsonl",)}


REWRITE = Stage("rewrite", 2, RewriteStage, "raft_core.refine.rewrite", needs=GENERATION)


def run(stage: StageRun) -> None:
    """Writes rewrites.jsonl, one row per example of the shard; the filter judges them."""
    config: RewriteStage = stage.config
    examples = iter_records(stage.inputs["prepare"] / "train.jsonl", Example)
    mine = list(config.shard.stream(examples))
    rewrites = rewrite_answers(mine, config, stage)
    write_jsonl(stage.out / "rewrites.jsonl", rewrites)
    stage.account(len(mine), len(rewrites), [])


def rewrite_answers(
    examples: Sequence[Example], config: RewriteStage, stage: StageRun
) -> list[Rewrite]:
    """One completion per example; its seed depends on the row's id alone."""
    prompt = config.prompt.load()
    requests = [
        GenerationRequest(
            prompt.render(question=e.question, reference=e.answer),
            request_seed(config.sampling.seed, "rewrite", e.id),
        )
        for e in examples
    ]
    generator = open_generator(config.generator, stage)
    stage.progress.start("rewrite", len(requests))
    completions = generator.generate(requests, config.sampling, on_done=stage.progress.advance)
    return [
        Rewrite(e.id, answer_text(c.text), c.finish_reason, len(c.token_ids), c.error)
        for e, c in zip(examples, completions, strict=True)
    ]
