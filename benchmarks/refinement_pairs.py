"""Compare rewriting and fusing through the stages with a bare `vllm.LLM.generate`, by pairs."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from benchmarks.measuring import Spread, paired
from benchmarks.stage_runs import StageRuns, Took, note
from raft_core.app.pipeline import STAGES
from raft_core.app.settings import Settings
from raft_core.config.runtime import RuntimeConfig, limit_threads
from raft_core.data.records import Example, iter_records, read_jsonl
from raft_core.engines import vllm
from raft_core.engines.base import GenerationRequest, VllmConfig, request_seed
from raft_core.engines.chat import load_tokenizer
from raft_core.execution.processes import StageProcesses, environment
from raft_core.execution.stage import StageConfig
from raft_core.prompts import FusePrompt, RewritePrompt
from raft_core.refine.fuse import FuseStage
from raft_core.refine.rewrite import RewriteStage


@dataclass(frozen=True, slots=True)
class Side:
    """One process of a pair.

    `seconds` are in all, `generate` those in which the engine wrote, and `work` all but start,
    loading and end; `tokens` is how many came.
    """

    seconds: float
    load: float
    work: float
    generate: float
    tokens: int


@dataclass(frozen=True, slots=True)
class Pairs:
    """The pairs of one stage."""

    stage: str
    requests: int
    staged: tuple[Side, ...]
    bare: tuple[Side, ...]

    def sides(self) -> tuple[tuple[Side, ...], tuple[Side, ...]]:
        return self.staged, self.bare

    def speeds(self) -> list[Spread]:
        """Return tokens per second of generating, of the stage and of vLLM alone."""
        return [Spread.of([s.tokens / s.generate for s in side]) for side in self.sides()]

    def loads(self) -> list[Spread]:
        """Return seconds of loading models (of vLLM alone with its import)."""
        return [Spread.of([s.load for s in side]) for side in self.sides()]

    def generation(self) -> Spread:
        """Return tokens per second of generating, stage / bare."""
        ours, theirs = ([s.tokens / s.generate for s in side] for side in self.sides())
        return paired(ours, theirs)

    def whole(self) -> Spread:
        """Return tokens per second of the whole process, stage / bare."""
        ours, theirs = ([s.tokens / s.seconds for s in side] for side in self.sides())
        return paired(ours, theirs)

    def working(self) -> Spread:
        """Return tokens per second of all but start, loading and end, stage / bare."""
        ours, theirs = ([s.tokens / s.work for s in side] for side in self.sides())
        return paired(ours, theirs)


def rewrite_requests(prepared: Path, prompt: RewritePrompt, seed: int) -> list[GenerationRequest]:
    """Return the requests of the stage `rewrite` to its engine."""
    template = prompt.load()
    return [
        GenerationRequest(
            template.render(question=e.question, reference=e.answer),
            request_seed(seed, "rewrite", e.id),
        )
        for e in iter_records(prepared / "train.jsonl", Example)
    ]


def fuse_requests(lineage: Path, prompt: FusePrompt, seed: int) -> list[GenerationRequest]:
    """Return the requests of the stage `fuse` from its lineage: rounds of all rows, in order."""
    template = prompt.load()
    asked = [
        (number, row) for row in read_jsonl(lineage) for number in range(len(row["candidates"]))
    ]
    return [
        GenerationRequest(
            template.render(
                question=row["question"], reference=row["reference"], rewrite=row["rewrite"]
            ),
            request_seed(seed, "fuse", number, row["id"]),
        )
        for number, row in sorted(asked, key=lambda one: one[0])
    ]


def measured_pairs(
    stage: str,
    config: RewriteStage | FuseStage,
    inputs: Mapping[str, Path],
    settings: Settings,
    folder: Path,
    home: Path,
    count: int,
) -> Pairs:
    """Measure `count` pairs of one stage; both find the vectors of `home` and no completion.

    Raises:
        RuntimeError: the two sides wrote different tokens.
    """
    staged: list[Side] = []
    bare: list[Side] = []
    requests: list[GenerationRequest] = []
    for number in range(count):
        here = folder / f"{stage}-{number}"
        took = run_stage(settings, stage, config, inputs, here, home)
        answers = written(here / "home" / "generations.sqlite")
        if not requests:
            requests = requests_of(config, inputs["prepare"], took.out)
        told, token_ids = run_bare(config, settings.runtime, requests, here)
        if sorted(token_ids) != sorted(answers):
            raise RuntimeError(f"{stage}: the stage and vLLM alone wrote different tokens")
        staged.append(side_of(took, told.tokens))
        bare.append(told)
        note(f"{stage} {number + 1}/{count}: {staged[-1]} beside {told}")
    return Pairs(stage, len(requests), tuple(staged), tuple(bare))


def side_of(took: Took, tokens: int) -> Side:
    generate = took.timings["generate"] - took.timings.get("grade", 0.0)
    return Side(took.seconds, took.load, took.work, generate, tokens)


def run_stage(
    settings: Settings,
    stage: str,
    config: StageConfig,
    inputs: Mapping[str, Path],
    folder: Path,
    home: Path,
) -> Took:
    """Run a stage in a new interpreter, where vectors are found but no completion."""
    runtime = settings.runtime.model_copy(update={"preload": ()})
    shutil.copytree(home, folder / "home", ignore=shutil.ignore_patterns("generations*"))
    os.environ["RAFT_HOME"] = str(folder / "home")
    with StageProcesses(runtime, STAGES) as processes:
        return StageRuns(folder, runtime, processes).run(stage, config, inputs)


def written(completions: Path) -> list[list[int]]:
    """Return the token ids of all completions that a stage wrote."""
    with closing(sqlite3.connect(completions)) as database:
        found = database.execute("SELECT completion FROM completions").fetchall()
    return [json.loads(text)["token_ids"] for (text,) in found]


def requests_of(
    config: RewriteStage | FuseStage, prepared: Path, out: Path
) -> list[GenerationRequest]:
    """Return the requests of a stage to its engine."""
    if isinstance(config, FuseStage):
        fuse = config.fuse
        return fuse_requests(out / "lineage.jsonl", fuse.prompt, fuse.sampling.seed)
    return rewrite_requests(prepared, config.prompt, config.sampling.seed)


def run_bare(
    config: RewriteStage | FuseStage,
    runtime: RuntimeConfig,
    requests: Sequence[GenerationRequest],
    folder: Path,
) -> tuple[Side, list[list[int]]]:
    """Answer the same requests by vLLM alone; return also the completions' token ids."""
    job, out = folder / "job.json", folder / "bare.json"
    job.write_text(json.dumps(bare_job(config, runtime, requests)))
    limit_threads(runtime.threads_per_stage)
    env = environment(runtime) | runtime.vllm_environment()
    begun = time.monotonic()
    subprocess.run(
        [sys.executable, "-m", "benchmarks.bare_vllm", str(job), str(out)],
        env=env,
        check=True,
        stdout=subprocess.DEVNULL,
    )
    seconds = time.monotonic() - begun
    told = json.loads(out.read_text())
    tokens = sum(map(len, told["token_ids"]))
    work = told["generate"]
    return Side(seconds, told["load"], work, work, tokens), told["token_ids"]


def bare_job(
    config: RewriteStage | FuseStage, runtime: RuntimeConfig, requests: Sequence[GenerationRequest]
) -> dict[str, object]:
    """Return the job of `benchmarks.bare_vllm`."""
    engine = config.generator
    assert isinstance(engine, VllmConfig)
    sampling = config.fuse.sampling if isinstance(config, FuseStage) else config.sampling
    tokenizer = load_tokenizer(engine.model)
    shared = {
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "max_tokens": sampling.max_tokens,
        "stop_token_ids": vllm.model_stop_ids(engine.model, tokenizer),
    }
    return {
        "engine": vllm.engine_arguments(engine, runtime),
        "prompts": tokenizer.apply_chat_template(
            [[{"role": "user", "content": r.prompt}] for r in requests],
            tokenize=False,
            add_generation_prompt=True,
            enable_thinking=engine.enable_thinking,
        ),
        "sampling": [shared | {"seed": r.seed} for r in requests],
    }
