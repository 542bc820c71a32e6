"""What a preparation of documents leaves for people: files, a page, and closing lines."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from prefect.artifacts import create_markdown_artifact

from raft_core.app.document_settings import DocumentSettings
from raft_core.documents.report import reasons, require_pairs
from raft_core.store.artifacts import ArtifactRef
from raft_core.store.private_files import with_users_mask
from tasks.run_context import RunContext
from tasks.tracking import masked

# Beside the file of pairs: its name with these endings.
BESIDE = {"rejected.jsonl": ".rejected.jsonl", "report.md": ".report.md"}


def results(
    context: RunContext, settings: DocumentSettings, made: ArtifactRef, out: Path
) -> dict[str, Any]:
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
    slug = settings.name.replace("_", "-")
    create_markdown_artifact(key=f"pairs-{slug}", markdown=page)
    context.tracker.log_pairs(made)
    summary = json.loads((made.folder / "summary.json").read_text())
    require_pairs(summary, places["rejected.jsonl"])
    return summary | {
        "files": {name: str(place) for name, place in places.items()},
        "mlflow_run": context.tracker.run_id,
        "mlflow_uri": masked(context.runtime.tracking_uri),
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
