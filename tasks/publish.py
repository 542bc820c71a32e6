"""What a flow run leaves for people: Prefect artifacts, and the closing lines in the terminal."""

from __future__ import annotations

import json
from typing import Any

from prefect.artifacts import (
    create_link_artifact,
    create_markdown_artifact,
    create_table_artifact,
)

from raft_core.app.pipeline import Pipeline
from raft_core.app.settings import Settings
from raft_core.evaluation.report import (
    comparison_table,
    interval,
    notes,
    score_cell,
    training_lines,
)
from raft_core.execution.graph import Artifacts
from tasks.run_context import RunContext
from tasks.tracking import masked


def results(
    context: RunContext, settings: Settings, run: Pipeline, made: Artifacts
) -> dict[str, Any]:
    """Publish the comparison on the flow run's page; returns what the terminal shows."""
    folder, refined = made[run.report].folder, run.refined
    data = {"prepare": refined.prepare, "filter": refined.filter, "fuse": refined.fuse}
    report = json.loads((folder / "report.json").read_text())
    benchmarks = list(report["methods"][0]["scores"])
    slug = settings.domain.name.replace("_", "-")
    create_table_artifact(
        key=f"comparison-{slug}",
        table=[_plain(row) for row in report["methods"]],
        description=f"Domain accuracy and what was retained, {settings.domain.name}",
    )
    create_markdown_artifact(
        key=f"report-{slug}",
        markdown=(folder / "report.md").read_text(),
    )
    if context.tracker.url:
        create_link_artifact(
            key=f"mlflow-{slug}",
            link=context.tracker.url,
            link_text=f"MLflow run {context.tracker.run_id}",
            description="Curves, samples, plots and checkpoints (`make ui` serves a local store)",
        )
    return {
        "domain": report["domain"],
        "table": comparison_table(report["methods"], benchmarks),
        "refinement": report["refinement"],
        "training": training_lines(report["methods"]),
        "notes": notes(report),
        "rejected": {
            name: str(made[data[name]].folder / "rejected.jsonl")
            for name, counts in report["refinement"]["stages"].items()
            if counts["rejected"]
        },
        "checkpoints": {
            method: str(made[node].folder / "checkpoint") for method, node in run.trained.items()
        },
        "report": str(folder / "report.md"),
        "lineage": str(made[run.lineage].folder / "lineage.html"),
        "mlflow_run": context.tracker.run_id,
        "mlflow_uri": masked(context.runtime.tracking_uri),
    }


def _plain(row: dict[str, Any]) -> dict[str, str]:
    cells = {"method": row["label"]}
    cells |= {name: score_cell(score) for name, score in row["scores"].items()}
    return cells | {"retention": interval(row["retention"])}


def show(summary: dict[str, Any]) -> None:
    """Print the table and where everything lies."""
    stages = summary["refinement"]["stages"]
    targets = ", ".join(f"{n} {kind}" for kind, n in summary["refinement"]["targets"].items())
    print(f"\nDomain: {summary['domain']}\n")
    print("\n".join(summary["table"]))
    for note in summary["notes"]:
        print(f"\nNote: {note}.")
    splits = ", ".join(f"{n} {split}" for split, n in summary["refinement"]["splits"].items())
    print(f"\nsplits   {splits}")
    for name, counts in stages.items():
        reasons = ", ".join(f"{n} {why}" for why, n in counts["rejected"].items())
        tail = f" ({reasons})" if reasons else ""
        print(f"{name:<8} {counts['in']} rows in, {counts['kept']} kept{tail}")
    print(f"targets  {targets}")
    for line in summary["training"]:
        print(f"trained  {line}")
    print()
    for method, folder in summary["checkpoints"].items():
        print(f"checkpoint {method:<10} {folder}")
    for stage, path in summary["rejected"].items():
        print(f"rejected {stage:<12} {path}")
    print(f"report                {summary['report']}")
    print(f"every row             {summary['lineage']}")
    run = summary["mlflow_run"] or "(kept until the server answers)"
    print(f"MLflow run            {run} in {summary['mlflow_uri']}")
    print("browse it with        make ui")
