"""Stage `respond`: a model answers every benchmark; the raw responses are kept."""

from __future__ import annotations

from pathlib import Path

from raft_core.config.base import ModelRef
from raft_core.data.records import write_jsonl
from raft_core.engines import GeneratorConfig, open_generator
from raft_core.engines.base import GenerationRequest, request_seed
from raft_core.evaluation.benchmarks.base import Response
from raft_core.evaluation.config import RespondStage
from raft_core.evaluation.harness_run import ask_harness, load_tasks
from raft_core.execution.stage import StageRun


def run(stage: StageRun) -> None:
    """Writes responses.jsonl: all benchmarks in one batch, so that the engine loads once.

    What lm-evaluation-harness asked stands in harness.jsonl, with its verdicts.
    """
    config: RespondStage = stage.config
    generator_config = config.generator
    if "distill" in stage.inputs:
        checkpoint = ModelRef(path=str(stage.inputs["distill"] / "checkpoint"))
        generator_config = generator_config.model_copy(update={"model": checkpoint})
    harness = {n: b for n, b in config.benchmarks.items() if b.kind == "lm_eval"}
    tasks = load_tasks(harness) if harness else {}
    answered = answer_items(generator_config, stage)
    if harness:
        rows = list(ask_harness(harness, tasks, generator_config, stage))
        answered += write_jsonl(stage.out / "harness.jsonl", rows)
    stage.account(answered, answered, [])


def answer_items(generator_config: GeneratorConfig, stage: StageRun) -> int:
    """Answer the benchmarks whose prompts are RAFT's own; returns how many prompts there were."""
    config: RespondStage = stage.config
    asked = [
        (name, item)
        for name, benchmark in config.benchmarks.items()
        for item in benchmark.items(stage.inputs.get("prepare", Path()))
    ]
    requests = [
        GenerationRequest(item.prompt, request_seed(config.sampling.seed, name, item.id))
        for name, item in asked
    ]
    generator = open_generator(generator_config, stage)
    stage.progress.start("respond", len(requests))
    completions = generator.generate(requests, config.sampling, on_done=stage.progress.advance)
    if any(benchmark.kind == "lm_eval" for benchmark in config.benchmarks.values()):
        generator.close()  # the harness loads the model once more
    return write_jsonl(
        stage.out / "responses.jsonl",
        (
            Response(name, i.id, i.prompt, c.text, c.finish_reason, len(c.token_ids), c.error)
            for (name, i), c in zip(asked, completions, strict=True)
        ),
    )
