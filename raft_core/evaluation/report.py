"""Stage `report`: the comparison of all methods with the base, as table, plots and JSON."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from raft_core.data.records import SPLITS, read_jsonl
from raft_core.evaluation import plots, report_sections
from raft_core.evaluation.comparison import (
    Outcomes,
    comparisons,
    pairs,
    read_outcomes,
    retained,
)
from raft_core.evaluation.distance_plots import weight_distances
from raft_core.evaluation.markdown import estimate, plain, rate, table
from raft_core.evaluation.metrics import Estimate
from raft_core.evaluation.report_config import ReportStage
from raft_core.execution.stage import StageRun

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
    report = measured(config, stage.inputs)
    (stage.out / "report.json").write_text(json.dumps(report, indent=1, allow_nan=False))
    (stage.out / "report.md").write_text(as_markdown(report, config))
    draw(report, config, stage)
    stage.progress.advance()


def measured(config: ReportStage, inputs: Mapping[str, Path]) -> dict[str, Any]:
    """All numbers of the report."""
    names = (BASE, *config.learning_rates)
    pattern = config.compare.cluster_pattern
    outcomes = {name: read_outcomes(inputs[f"evaluate.{name}"], pattern) for name in names}
    compared = compared_pairs(config)
    return {
        "domain": config.domain,
        "methods": [method_row(name, config, inputs, outcomes) for name in names],
        "comparisons": comparisons(outcomes, compared, config.benchmarks),
        "panel": [member.model_dump(mode="json") for member in config.panel],
        "warnings": list(config.warnings),
        "refinement": summarise_refinement(inputs),
    }


def compared_pairs(config: ReportStage) -> list[tuple[str, str]]:
    """The pairs of methods; without its baseline among them the base is it."""
    methods, compare = list(config.learning_rates), config.compare
    baseline = compare.baseline if compare.baseline in methods else BASE
    return pairs(methods, baseline, compare.method)


def draw(report: Mapping[str, Any], config: ReportStage, stage: StageRun) -> None:
    """Write the figures; one that has nothing to show is left out."""
    rows = report["methods"]
    labels = labels_of(rows)
    plots.domain_versus_retention(rows, stage.out / "domain_versus_retention.png")
    plots.differences(report["comparisons"], labels, stage.out / "differences.png")
    distances = {
        labels[name]: weight_distance(stage.inputs[f"distill.{name}"])
        for name in config.learning_rates
    }
    weight_distances(distances, stage.out / "weight_distance.png")
    if "filter" in stage.inputs:
        similarities = list(read_jsonl(stage.inputs["filter"] / "filtered.jsonl"))
        plots.similarity_histogram(similarities, config.tau, stage.out / "similarity.png")
    curves = {
        labels[name]: list(read_jsonl(stage.inputs[f"distill.{name}"] / "curves.jsonl"))
        for name in config.learning_rates
    }
    plots.training_curves(curves, stage.out / "curves.png")


def labels_of(rows: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Method -> what the report calls it."""
    return {row["method"]: row["label"] for row in rows}


def weight_distance(trained: Path) -> dict[str, float]:
    """Parameter -> relative distance from the base, of a trained (or pruned) model."""
    distances: dict[str, float] = json.loads((trained / "weight_distance.json").read_text())
    return distances


def method_row(
    name: str,
    config: ReportStage,
    inputs: Mapping[str, Path],
    outcomes: Mapping[str, Mapping[str, Outcomes]],
) -> dict[str, Any]:
    """One line of the table: scores with intervals, retention against the base, drift."""
    scores = json.loads((inputs[f"evaluate.{name}"] / "scores.json").read_text())
    row: dict[str, Any] = {
        "method": name,
        "label": LABELS.get(name, name),
        "learning_rate": config.learning_rates.get(name),
        "scores": {bench: scores[bench] for bench in config.benchmarks},
        "retention": None,
        "retention_by_benchmark": None,
        "weight_distance": None,
        "training": None,
    }
    if name == BASE:
        return row
    row["retention"] = retained(outcomes[name], outcomes[BASE], config.retained)
    row["retention_by_benchmark"] = {
        bench: retained(outcomes[name], outcomes[BASE], [bench]) for bench in config.retained
    }
    trained = inputs[f"distill.{name}"]
    row["weight_distance"] = fmean(weight_distance(trained).values())
    row["training"] = json.loads((trained / "summary.json").read_text())
    return row


def summarise_refinement(inputs: Mapping[str, Path]) -> dict[str, Any]:
    """Count the rows that each refinement stage of the run took in, kept and rejected."""
    counts = {
        name: json.loads((inputs[name] / "counts.json").read_text())
        for name in ("prepare", "filter", "fuse")
        if name in inputs
    }
    splits = {
        split: sum(1 for _ in read_jsonl(inputs["prepare"] / f"{split}.jsonl")) for split in SPLITS
    }
    fused = read_jsonl(inputs["fuse"] / "fused.jsonl") if "fuse" in inputs else ()
    sources = Counter(row["source"] for row in fused)
    return {"stages": counts, "splits": splits, "targets": dict(sources.most_common())}


def as_markdown(report: Mapping[str, Any], config: ReportStage) -> str:
    """The report as a page of Markdown."""
    rows, refinement = report["methods"], report["refinement"]
    lines = [f"# RAFT on {config.domain}", "", *comparison_table(rows, config.benchmarks), ""]
    lines += [
        "Scores are shares of right answers with 95% Wilson intervals. Retention is the mean of "
        f"score / base score over {' and '.join(config.retained)}, with a paired bootstrap "
        f"interval; it is empty where the base's score is too near to 0. {counted_rows(config)} "
        "Drift is the mean relative weight distance. Undecided: the panel could tell of no answer "
        "whether it is right.",
        "",
        *report_sections.retention_section(rows, config.retained),
        *report_sections.difference_section(report["comparisons"], labels_of(rows)),
        *report_sections.ifeval_section(rows, config.benchmarks),
        *report_sections.panel_section(rows, config),
        "## Refinement",
        "",
        "| stage | rows in | kept | rejected, by reason |",
        "| --- | ---: | ---: | --- |",
    ]
    for name, counts in refinement["stages"].items():
        reasons = ", ".join(f"{n} {why}" for why, n in counts["rejected"].items()) or "none"
        lines.append(f"| {name} | {counts['in']} | {counts['kept']} | {reasons} |")
    if targets := ", ".join(f"{n} {source}" for source, n in refinement["targets"].items()):
        lines += ["", f"Training targets: {targets}."]
    lines += ["", "## Training", ""]
    lines += [f"- {line}" for line in training_lines(rows)]
    return "\n".join([*lines, ""])


def counted_rows(config: ReportStage) -> str:
    """Which intervals count rows as independent of each other."""
    if config.compare.cluster_pattern is None:
        return (
            "All intervals count rows as independent (`evaluate.compare.cluster_pattern` draws "
            "rows of one fact together)."
        )
    return (
        "Wilson's count rows as independent; the bootstrap draws rows of one fact together "
        "(`evaluate.compare.cluster_pattern`)."
    )


def notes(report: dict[str, Any]) -> list[str]:
    """What a reader of the table must know to read it rightly."""
    said = list(report["warnings"])
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
    lines = [
        [
            row["label"],
            rate(row["learning_rate"]),
            *(score_cell(row["scores"][name]) for name in benchmarks),
            interval(row["retention"]),
            plain(row["weight_distance"]),
        ]
        for row in rows
    ]
    return table(["method", "lr", *benchmarks, "retention", "drift"], lines, left=2)


def score_cell(score: Mapping[str, Any]) -> str:
    """A score with its interval, unless the panel could decide on no answer at all."""
    if score["undecided"] == score["n"]:
        return "undecided"
    return estimate(Estimate(score["accuracy"], score["low"], score["high"]))


def interval(bounds: Mapping[str, float] | None) -> str:
    """`0.936 [0.90, 0.96]`, empty where there is none."""
    return estimate(None if bounds is None else Estimate(**bounds))
