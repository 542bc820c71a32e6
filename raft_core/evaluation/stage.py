"""Stage `evaluate`: responses become votes, and votes become scores with intervals."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from raft_core.evaluation.benchmarks import BenchmarkConfig
from raft_core.evaluation.benchmarks.base import Item, Response
from raft_core.evaluation.benchmarks.instructions import (
    check_responses,
    instruction_levels,
    instruction_votes,
)
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
        items = benchmark.items(stage.inputs.get("prepare", Path()))
        mine = [r for r in responses if r.benchmark == name]
        judged = _judge(benchmark, items, mine, config, stage)
        kind = {"kind": benchmark.kind, "version": benchmark.version}
        scores[name] = score(judged.votes) | kind | judged.figures
        verdicts += [_verdict(*row) for row in zip(items, mine, *judged.by_row, strict=True)]
        stage.progress.advance(len(items))
    write_jsonl(stage.out / "verdicts.jsonl", verdicts)
    (stage.out / "scores.json").write_text(json.dumps(scores, indent=1))
    stage.account(len(responses), len(verdicts), [])


@dataclass(frozen=True, slots=True)
class Judged:
    """The votes on every response, what else is told of each, and the benchmark's own figures."""

    votes: list[list[Vote]]
    details: list[dict[str, Any]]
    figures: dict[str, Any] = field(default_factory=dict)

    @property
    def by_row(self) -> tuple[list[list[Vote]], list[dict[str, Any]]]:
        return self.votes, self.details


def _judge(
    benchmark: BenchmarkConfig,
    items: Sequence[Item],
    responses: Sequence[Response],
    config: EvaluateStage,
    stage: StageRun,
) -> Judged:
    if benchmark.kind == "instructions":
        checked = check_responses(items, responses)
        details = [{"instructions": [asdict(f) for f in followed]} for followed in checked]
        return Judged(instruction_votes(checked), details, {"ifeval": instruction_levels(checked)})
    votes = panel_votes(items, responses, config.panel, stage)
    return Judged(votes, [{} for _ in votes])


def score(votes: Sequence[Sequence[Vote]]) -> dict[str, Any]:
    """Accuracy by majority with its Wilson interval, unanimity, and what could not be told."""
    correct = sum(majority_correct(each) for each in votes)
    estimate = wilson(correct, len(votes))
    return {
        "n": len(votes),
        "correct": correct,
        "accuracy": estimate.value,
        "low": estimate.low,
        "high": estimate.high,
        "unanimous": sum(len({v.verdict for v in each}) == 1 for each in votes) / len(votes),
        "cannot_tell": sum(v.verdict == "cannot_tell" for each in votes for v in each),
        "undecided": sum(undecided(each) for each in votes),
    }


def _verdict(
    item: Item, response: Response, votes: Sequence[Vote], details: dict[str, Any]
) -> dict[str, Any]:
    verdict: dict[str, Any] = {
        "benchmark": response.benchmark,
        "id": item.id,
        "prompt": item.prompt,
        "reference": item.reference,
        "response": response.response,
        "correct": majority_correct(votes),
        "votes": [asdict(vote) for vote in votes],
    }
    return verdict | details


def accuracies(evaluated: Path) -> dict[str, float]:
    """Benchmark -> accuracy, from an `evaluate` artifact."""
    scores = json.loads((evaluated / "scores.json").read_text())
    return {name: score["accuracy"] for name, score in scores.items()}


def outcomes(evaluated: Path, benchmark: str) -> list[bool]:
    """Right or wrong for each row of a benchmark, in its order, from an `evaluate` artifact."""
    rows = read_jsonl(evaluated / "verdicts.jsonl")
    return [row["correct"] for row in rows if row["benchmark"] == benchmark]
