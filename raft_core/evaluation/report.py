"""Stage `report`: the comparison of all methods with the base, as table, plots and JSON."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import fmean
from typing import Any

from raft_core.evaluation import plots
from raft_core.evaluation.metrics import retention
from raft_core.evaluation.report_config import ReportStage
from raft_core.evaluation.stage import outcomes
from raft_core.records import SPLITS, read_jsonl
from raft_core.stage import StageRun

BASE = "base"
LABELS = {
    "base": "base",
    "sft_raw": "SFT raw",
    "sdft": "SDFT",
    "sft_fused": "SFT fused",
    "raft": "RAFT",
}


def run(stage: StageRun) -> None:
    """Writes report.json, report.md and the plots."""
    config: ReportStage = stage.config
    stage.progress.start("report", 1)
    rows = [method_row(name, config, stage.inputs) for name in (BASE, *config.learning_rates)]
    refinement = summarise_refinement(stage.inputs)
    report = {"domain": config.domain, "methods": rows, "refinement": refinement}
    (stage.out / "report.json").write_text(json.dumps(report, indent=1))
    (stage.out / "report.md").write_text(as_markdown(rows, refinement, config))
    plots.domain_versus_retention(rows, stage.out / "domain_versus_retention.png")
    similarities = list(read_jsonl(stage.inputs["filter"] / "filtered.jsonl"))
    plots.similarity_histogram(similarities, config.tau, stage.out / "similarity.png")
    curves = {
        name: list(read_jsonl(stage.inputs[f"distill.{name}"] / "curves.jsonl"))
        for name in config.learning_rates
    }
    plots.training_curves(curves, stage.out / "curves.png")
    stage.progress.advance()


def method_row(name: str, config: ReportStage, inputs: dict[str, Path]) -> dict[str, Any]:
    """One line of the table: scores with intervals, retention against the base, drift."""
    evaluated = inputs[f"evaluate.{name}"]
    scores = json.loads((evaluated / "scores.json").read_text())
    row: dict[str, Any] = {
        "method": name,
        "label": LABELS.get(name, name),
        "learning_rate": config.learning_rates.get(name),
        "scores": {bench: scores[bench] for bench in config.benchmarks},
        "retention": None,
        "weight_distance": None,
        "training": None,
    }
    if name == BASE:
        return row
    kept = retention(
        [outcomes(inputs[f"evaluate.{BASE}"], bench) for bench in config.retained],
        [outcomes(evaluated, bench) for bench in config.retained],
    )
    row["retention"] = None if kept is None else asdict(kept)
    trained = inputs[f"distill.{name}"]
    distances = json.loads((trained / "weight_distance.json").read_text())
    row["weight_distance"] = fmean(distances.values())
    row["training"] = json.loads((trained / "summary.json").read_text())
    return row


def summarise_refinement(inputs: dict[str, Path]) -> dict[str, Any]:
    """How many rows each refinement stage took in, kept and rejected, and what was trained on."""
    counts = {
        name: json.loads((inputs[name] / "counts.json").read_text())
        for name in ("prepare", "filter", "fuse")
    }
    splits = {
        split: sum(1 for _ in read_jsonl(inputs["prepare"] / f"{split}.jsonl")) for split in SPLITS
    }
    sources = Counter(row["source"] for row in read_jsonl(inputs["fuse"] / "fused.jsonl"))
    return {"stages": counts, "splits": splits, "targets": dict(sources.most_common())}


def as_markdown(
    rows: Sequence[dict[str, Any]], refinement: dict[str, Any], config: ReportStage
) -> str:
    """The report as a page of Markdown."""
    lines = [f"# RAFT on {config.domain}", "", *comparison_table(rows, config.benchmarks), ""]
    lines += [
        "Scores are shares of right answers with 95% Wilson intervals. Retention is the mean of "
        f"score / base score over {' and '.join(config.retained)}, with a paired bootstrap "
        "interval; both count rows as independent of each other. Drift is the mean relative weight "
        "distance. Undecided: the panel could tell of no answer whether it is right.",
        "",
        "## Refinement",
        "",
        "| stage | rows in | kept | rejected, by reason |",
        "| --- | ---: | ---: | --- |",
    ]
    for name, counts in refinement["stages"].items():
        reasons = ", ".join(f"{n} {why}" for why, n in counts["rejected"].items()) or "none"
        lines.append(f"| {name} | {counts['in']} | {counts['kept']} | {reasons} |")
    targets = ", ".join(f"{n} {source}" for source, n in refinement["targets"].items())
    lines += ["", f"Training targets: {targets}.", "", "## Training", ""]
    lines += [f"- {line}" for line in training_lines(rows)]
    return "\n".join([*lines, ""])


def notes(report: dict[str, Any]) -> list[str]:
    """What a reader of the table must know to read it rightly."""
    said = []
    scores = [score for row in report["methods"] for score in row["scores"].values()]
    if any(score["undecided"] == score["n"] for score in scores):
        said.append(
            "undecided: the panel could tell of no answer whether it is right; its rule judges "
            "need 'expected' strings in the rows, or let a language model judge (evaluate.panel)"
        )
    if set(report["refinement"]["targets"]) == {"reference"}:
        said.append(
            "no rewrite passed: every method learned the reference answers, the fused set is them"
        )
    return said


def training_lines(rows: Sequence[dict[str, Any]]) -> list[str]:
    """What each method was trained on, and what did not fit its budgets of tokens."""
    lines = []
    for row in rows:
        if row["training"] is not None:
            counts = row["training"]
            cut = {k.replace("_", " "): n for k, n in counts.items() if k not in {"steps", "rows"}}
            said = ", ".join(f"{n} {what}" for what, n in cut.items() if n) or "nothing cut"
            lines.append(f"{row['label']}: {counts['rows']} rows, {counts['steps']} steps, {said}")
    return lines


def comparison_table(rows: Sequence[dict[str, Any]], benchmarks: Sequence[str]) -> list[str]:
    head = ["method", "lr", *benchmarks, "retention", "drift"]
    lines = [table_line(head), table_line(["---"] * 2 + ["---:"] * (len(head) - 2))]
    for row in rows:
        rate, distance = row["learning_rate"], row["weight_distance"]
        cells = [row["label"], "" if rate is None else f"{rate:.1e}"]
        cells += [score_cell(row["scores"][b]) for b in benchmarks]
        kept = row["retention"]
        cells.append("" if kept is None else interval(kept["value"], kept))
        cells.append("" if distance is None else f"{distance:.3f}")
        lines.append(table_line(cells))
    return lines


def score_cell(score: dict[str, Any]) -> str:
    """A score with its interval, unless the panel could decide on no answer at all."""
    if score["undecided"] == score["n"]:
        return "undecided"
    return interval(score["accuracy"], score)


def interval(value: float, bounds: dict[str, float]) -> str:
    """`0.936 [0.90, 0.96]`"""
    return f"{value:.3f} [{bounds['low']:.2f}, {bounds['high']:.2f}]"


def table_line(cells: Sequence[str]) -> str:
    """One line of a Markdown table."""
    return f"| {' | '.join(cells)} |"
