"""Stage `evaluate`: responses become votes, and votes become scores with intervals."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from raft_core.data.records import Vote, read_jsonl, read_records, write_jsonl
from raft_core.evaluation.agreement import panel_agreement
from raft_core.evaluation.benchmarks import OwnBenchmark
from raft_core.evaluation.benchmarks.base import Item, Response
from raft_core.evaluation.benchmarks.harness import HarnessBenchmark
from raft_core.evaluation.benchmarks.instructions import (
    check_responses,
    instruction_levels,
    instruction_votes,
)
from raft_core.evaluation.benchmarks.questions import panel_votes
from raft_core.evaluation.config import EvaluateStage
from raft_core.evaluation.harness_run import HarnessRow, digest_of_rows, judged_rows
from raft_core.evaluation.judges import majority_correct, undecided
from raft_core.evaluation.metrics import wilson
from raft_core.execution.stage import StageRun


def run(stage: StageRun) -> None:
    """Writes scores.json and verdicts.jsonl (every vote on every response)."""
    config: EvaluateStage = stage.config
    answered = stage.inputs["respond"]
    responses = read_records(answered / "responses.jsonl", Response)
    harness = answered / "harness.jsonl"
    harness_rows = read_records(harness, HarnessRow) if harness.is_file() else []
    rows_in = len(responses) + len(harness_rows)
    stage.progress.start("evaluate", rows_in)
    scores, verdicts = {}, []
    for name, benchmark in config.benchmarks.items():
        if benchmark.kind == "lm_eval":
            judged = _by_harness([r for r in harness_rows if r.benchmark == name], benchmark)
        else:
            mine = [r for r in responses if r.benchmark == name]
            judged = _judge(benchmark, mine, config, stage)
        kind = {"kind": benchmark.kind, "version": benchmark.version}
        scores[name] = score(judged.votes) | kind | judged.figures
        verdicts += judged.verdicts()
        stage.progress.advance(len(judged.votes))
    write_jsonl(stage.out / "verdicts.jsonl", verdicts)
    (stage.out / "scores.json").write_text(json.dumps(scores, indent=1))
    stage.account(rows_in, len(verdicts), [])


@dataclass(frozen=True, slots=True)
class Judged:
    """The votes on every response, what else is told of each, and the benchmark's own figures."""

    items: Sequence[Item]
    responses: Sequence[Response]
    votes: list[list[Vote]]
    details: Sequence[dict[str, Any]] = ()
    figures: dict[str, Any] = field(default_factory=dict)

    def verdicts(self) -> list[dict[str, Any]]:
        """What is kept of each response."""
        details = self.details or [{}] * len(self.votes)
        rows = zip(self.items, self.responses, self.votes, details, strict=True)
        return [_verdict(*row) for row in rows]


def _judge(
    benchmark: OwnBenchmark,
    responses: Sequence[Response],
    config: EvaluateStage,
    stage: StageRun,
) -> Judged:
    items = benchmark.items(stage.inputs.get("prepare", Path()))
    if benchmark.kind == "instructions":
        checked = check_responses(items, responses, benchmark.sentences)
        votes = instruction_votes(checked)
        details = [{"instructions": [asdict(f) for f in followed]} for followed in checked]
        figures = {"ifeval": instruction_levels(checked, benchmark.sentences)}
        return Judged(items, responses, votes, details, figures)
    return Judged(items, responses, panel_votes(items, responses, config.panel, stage))


def _by_harness(rows: Sequence[HarnessRow], benchmark: HarnessBenchmark) -> Judged:
    """One vote a row: the harness's own."""
    judged = judged_rows(rows, benchmark)
    items = [Item(row.id, row.prompt, row.prompt, row.reference) for row in rows]
    said = [Response(r.benchmark, r.id, r.prompt, text, "stop", 0) for r, text, _, _ in judged]
    votes = [[Vote(metric, "correct" if right else "incorrect")] for _, _, metric, right in judged]
    return Judged(items, said, votes, figures={"harness": {"rows": digest_of_rows(rows)}})


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
