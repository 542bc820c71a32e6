"""Documents to pairs: the stages as Prefect tasks, and what a preparation leaves for people."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from prefect import task
from prefect.artifacts import create_markdown_artifact
from prefect.states import State

from raft_core.data.records import read_jsonl
from raft_core.documents.report import reasons, require_pairs
from raft_core.execution.shards import Shard, shards_for
from raft_core.store.artifacts import ArtifactRef
from raft_core.store.private_files import with_users_mask
from tasks.pipeline import STAGE_TASK
from tasks.stage import RunContext, run_stage
from tasks.tracking import masked

# Beside the file of pairs: its name with these endings.
BESIDE = {"rejected.jsonl": ".rejected.jsonl", "report.md": ".report.md"}


@task(name="passages", **STAGE_TASK)
def passages(context: RunContext) -> State:
    """Read, check and cut the documents."""
    return run_stage(context, "passages", context.settings.passages_stage(), {})


@task(name="ask", task_run_name="{label}", **STAGE_TASK)
def ask(context: RunContext, cut: ArtifactRef, shard: Shard, label: str) -> State:
    """Questions on a shard's passages, with their answers."""
    config = context.settings.ask_stage(shard)
    return run_stage(context, "ask", config, {"passages": cut}, label)


@task(name="vote", task_run_name="{label}", **STAGE_TASK)
def vote(context: RunContext, cut: ArtifactRef, asked: ArtifactRef, label: str) -> State:
    """Every voter's opinions on a shard's pairs."""
    inputs = {"passages": cut, "ask": asked}
    return run_stage(context, "vote", context.settings.vote_stage(), inputs, label)


@task(name="pairs", **STAGE_TASK)
def pairs(context: RunContext, inputs: dict[str, ArtifactRef]) -> State:
    """The pairs that are kept, with their provenance."""
    return run_stage(context, "pairs", context.settings.pairs_stage(), inputs)


def ask_and_vote(context: RunContext, cut: ArtifactRef) -> dict[str, Any]:
    """Futures of all shards: what is asked about some passages is voted on while others are asked.

    Returns:
        `ask.NNNNN` and `vote.NNNNN`.
    """
    count = sum(1 for _ in read_jsonl(cut.folder / "passages.jsonl"))
    submitted: dict[str, Any] = {}
    for shard in shards_for(count, context.settings.ask.passages_per_shard):
        part = "" if shard.is_whole else f" {shard.index + 1}/{shard.of}"
        asked = ask.submit(context, cut, shard, f"ask{part}")
        submitted[f"ask.{shard.index:05d}"] = asked
        submitted[f"vote.{shard.index:05d}"] = vote.submit(context, cut, asked, f"vote{part}")
    return submitted


def results(context: RunContext, made: ArtifactRef, out: Path) -> dict[str, Any]:
    """Copy the pairs, the rejected rows and the report to their place, and publish the report.

    Raises:
        NoPairsError: there is no pair; the rejected rows and the report are there.
    """
    places = {"pairs.jsonl": out} | {n: out.with_suffix(end) for n, end in BESIDE.items()}
    with with_users_mask():
        out.parent.mkdir(parents=True, exist_ok=True)
        for name, place in places.items():
            partial = place.with_name(f"{place.name}.partial")
            shutil.copyfile(made.folder / name, partial)
            partial.replace(place)
    page = (made.folder / "report.md").read_text(encoding="utf-8")
    slug = context.settings.name.replace("_", "-")
    create_markdown_artifact(key=f"pairs-{slug}", markdown=page)
    context.tracker.log_pairs(made)
    summary = json.loads((made.folder / "summary.json").read_text())
    require_pairs(summary, places["rejected.jsonl"])
    return summary | {
        "files": {name: str(place) for name, place in places.items()},
        "mlflow_run": context.tracker.run_id,
        "mlflow_uri": masked(context.settings.runtime.tracking_uri),
    }


def show(summary: dict[str, Any]) -> None:
    """Print what was kept, why the rest was not, and where it lies."""
    print(f"\n{summary['documents']} documents, {summary['pairs']} pairs kept\n")
    for name, counts in summary["stages"].items():
        tail = f" ({reasons(counts)})" if reasons(counts) else ""
        print(f"{name:<9} {counts['in']} rows in, {counts['kept']} kept{tail}")
    files = summary["files"]
    print(f"\npairs     {files['pairs.jsonl']}")
    print(f"rejected  {files['rejected.jsonl']}")
    print(f"report    {files['report.md']}")
    run = summary["mlflow_run"] or "(kept until the server answers)"
    print(f"MLflow run {run} in {summary['mlflow_uri']}")
    print(f"use it    make run DATA={files['pairs.jsonl']}")
