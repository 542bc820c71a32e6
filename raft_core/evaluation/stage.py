"""Stage `evaluate`: responses become votes, and votes become scores with intervals."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from raft_core.evaluation.agreement import panel_agreement
from raft_core.evaluation.benchmarks import BenchmarkConfig
from raft_core.evaluation.benchmarks.base import Item, Response
from raft_core.evaluation.benchmarks.instructions import instruction_votes
from raft_core.evaluation.benchmarks.questions import panel_votes
from raft_core.evaluation.config import EvaluateStage
from raft_core.evaluation.metrics import wilson
from raft_core.judging import majority_correct, undecided
from raft_core.records import Vote, read_jsonl, read_records, write_jsonl
from raft_core.stage import StageRun


def run(stage: StageRun) -> None:
    """Writes scores.json and verdicts.jsonl (every vote on every response)."""
    config: EvaluateStage = stage.config
    responses = read_records(stage.inputs["respond"] / "responses.jsonl", Response)
    stage.progress.start("evaluate", len(responses))
    scores, verdicts = {}, []
    for name, benchmark in config.benchmarks.items():
        items = benchmark.items(stage.inputs["prepare"])
        mine = [r for r in responses if r.benchmark == name]
        votes = _votes(benchmark, items, mine, config, stage)
        scores[name] = score(votes) | {"kind": benchmark.kind, "version": benchmark.version}
        verdicts += [_verdict(*row) for row in zip(items, mine, votes, strict=True)]
        stage.progress.advance(len(items))
    write_jsonl(stage.out / "verdicts.jsonl", verdicts)
    (stage.out / "scores.json").write_text(json.dumps(scores, indent=1))
    stage.account(len(responses), len(verdicts), [])


def _votes(
    benchmark: BenchmarkConfig,
    items: Sequence[Item],
    responses: Sequence[Response],
    config: EvaluateStage,
    stage: StageRun,
) -> list[list[Vote]]:
    if benchmark.kind == "instructions":
        return instruction_votes(items, responses)
    return panel_votes(items, responses, config.panel, stage)


def score(votes: Sequence[Sequence[Vote]]) -> dict[str, Any]:
    """Accuracy by majority with its Wilson interval, what could not be told, and agreement."""
    correct = sum(majority_correct(each) for each in votes)
    estimate = wilson(correct, len(votes))
    return {
        "n": len(votes),
        "correct": correct,
        "accuracy": estimate.value,
        "low": estimate.low,
        "high": estimate.high,
        "cannot_tell": sum(v.verdict == "cannot_tell" for each in votes for v in each),
        "undecided": sum(undecided(each) for each in votes),
        "agreement": panel_agreement(votes),
    }


def _verdict(item: Item, response: Response, votes: Sequence[Vote]) -> dict[str, Any]:
    return {
        "benchmark": response.benchmark,
        "id": item.id,
        "prompt": item.prompt,
        "reference": item.reference,
        "response": response.response,
        "correct": majority_correct(votes),
        "votes": [asdict(vote) for vote in votes],
    }


def accuracies(evaluated: Path) -> dict[str, float]:
    """Benchmark -> accuracy, from an `evaluate` artifact."""
    scores = json.loads((evaluated / "scores.json").read_text())
    return {name: score["accuracy"] for name, score in scores.items()}


def outcomes(evaluated: Path, benchmark: str) -> list[bool]:
    """Right or wrong for each row of a benchmark, in its order, from an `evaluate` artifact."""
    rows = read_jsonl(evaluated / "verdicts.jsonl")
    return [row["correct"] for row in rows if row["benchmark"] == benchmark]
