"""What a flow run leaves for people: Prefect artifacts, and the closing lines in the terminal."""

from __future__ import annotations

from typing import Any

from prefect.artifacts import (
    create_link_artifact,
    create_markdown_artifact,
    create_table_artifact,
)

from raft_core.app.run import Run, closing_lines
from raft_core.evaluation.report import interval, score_cell
from tasks.run_context import RunContext
from tasks.tracking import masked


def results(context: RunContext, run: Run) -> dict[str, Any]:
    """Publish the comparison on the flow run's page and return what the terminal shows."""
    slug = run.settings.domain.name.replace("_", "-")
    if run.is_whole:
        context.tracker.log_report(run.made[run.pipeline.report])
        create_table_artifact(
            key=f"comparison-{slug}",
            table=[_plain(row) for row in run.report["methods"]],
            description=f"Domain accuracy and what was retained, {run.settings.domain.name}",
        )
        create_markdown_artifact(key=f"report-{slug}", markdown=run.page)
    if context.tracker.url:
        create_link_artifact(
            key=f"mlflow-{slug}",
            link=context.tracker.url,
            link_text=f"MLflow run {context.tracker.run_id}",
            description="Curves, samples, plots and checkpoints (`make ui` serves a local store)",
        )
    return run.summary() | {
        "mlflow_run": context.tracker.run_id,
        "mlflow_uri": masked(context.runtime.tracking_uri),
    }


def _plain(row: dict[str, Any]) -> dict[str, str]:
    cells = {"method": row["label"]}
    cells |= {name: score_cell(score) for name, score in row["scores"].items()}
    return cells | {"retention": interval(row["retention"])}


def show(summary: dict[str, Any]) -> None:
    """Print the table and where everything lies."""
    print("\n".join(closing_lines(summary)))
    run = summary["mlflow_run"] or "(kept until the server answers)"
    print(f"MLflow run            {run} in {summary['mlflow_uri']}")
    print("browse it with        make ui")
