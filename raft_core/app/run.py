"""A whole run as a value that people look at, and the plain loop that makes it.

    settings = raft_core.load_settings("mini", domain="law")
    run = raft_core.run(settings)
    print(run.page)
    run.artifact("fuse")

needs neither Prefect nor MLflow. The flow `raft` makes the same value.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from raft_core.app.checks import checked
from raft_core.app.pipeline import STAGES, Pipeline, full_run, prepare_node, training_rows
from raft_core.app.settings import Settings
from raft_core.errors import InputError
from raft_core.evaluation.report import comparison_table, notes, training_lines
from raft_core.execution.execute import open_execution
from raft_core.execution.graph import Artifacts, Node, run_graph
from raft_core.execution.terminal import Terminal

# Makes the artifacts of nodes, beside those that are there: `run_graph` or Prefect's tasks.
Maker = Callable[[Sequence[Node], Artifacts | None], Artifacts]


@dataclass(frozen=True)
class Run:
    """What a run has made; one that ended early has no report."""

    settings: Settings
    pipeline: Pipeline
    made: Artifacts

    @property
    def is_whole(self) -> bool:
        """Return whether it went on to the report."""
        return self.pipeline.report in self.made

    @cached_property
    def report(self) -> dict[str, Any]:
        """All numbers of the report."""
        folder = self.made[self.pipeline.report].folder
        found: dict[str, Any] = json.loads((folder / "report.json").read_text())
        return found

    @property
    def page(self) -> str:
        """The report as Markdown."""
        return (self.made[self.pipeline.report].folder / "report.md").read_text(encoding="utf-8")

    def artifact(self, label: str) -> Path:
        """Return the folder of what a stage made: `filter`, `distill raft`, `rewrite 1/2`.

        Raises:
            InputError: the run has none of this name.
        """
        folders = {node.label: ref.folder for node, ref in self.made.items()}
        if label not in folders:
            raise InputError(f"this run has made no '{label}'; it has {', '.join(folders)}")
        return folders[label]

    def summary(self) -> dict[str, Any]:
        """Return what the closing lines tell, as plain JSON."""
        if not self.is_whole:
            return {"made": {n.label: str(ref.folder) for n, ref in self.made.items()}}
        report, folder = self.report, self.made[self.pipeline.report].folder
        refined = self.pipeline.refined
        data = {"prepare": refined.prepare, "filter": refined.filter, "fuse": refined.fuse}
        return {
            "domain": report["domain"],
            "table": comparison_table(report["methods"], list(report["methods"][0]["scores"])),
            "refinement": report["refinement"],
            "training": training_lines(report["methods"]),
            "notes": notes(report),
            "rejected": {
                name: str(self.made[data[name]].folder / "rejected.jsonl")
                for name, counts in report["refinement"]["stages"].items()
                if counts["rejected"]
            },
            "checkpoints": {
                method: str(self.made[node].folder / "checkpoint")
                for method, node in self.pipeline.trained.items()
            },
            "report": str(folder / "report.md"),
            "lineage": str(self.made[self.pipeline.lineage].folder / "lineage.html"),
        }


def run(settings: Settings, *, until: str | None = None) -> Run:
    """Run the pipeline in this process's own loop; its stages are processes of their own.

    Args:
        settings: what `load_settings` returns.
        until: the stage that the run ends with; None: the report.

    Raises:
        InputError: settings, data or a model cannot be used; nothing has been started then.
        RaftError: the first failure of a stage, once all that ran has ended.
    """
    settings = checked(settings)
    with open_execution(settings.runtime, STAGES, (Terminal(),)) as execution:
        for warning in settings.panel_warnings():
            execution.tell("note", f"Note: {warning}.")
        return walk(settings, partial(run_graph, execution), until)


def walk(settings: Settings, make: Maker, until: str | None = None) -> Run:
    """Make `prepare`, which decides how many shards there are, and then all that follows."""
    prepare = prepare_node(settings)
    made = make([prepare], None)
    pipeline = full_run(settings, prepare, training_rows(made[prepare]))
    return Run(settings, pipeline, make(pipeline.until(until), made))


def require_stage(settings: Settings, until: str | None) -> None:
    """Raise if no run of these settings has such a stage, however many shards it has.

    Raises:
        InputError: it names those that it has.
    """
    two_shards = settings.rewrite.rows_per_shard + 1
    full_run(settings, prepare_node(settings), two_shards).until(until)


def closing_lines(summary: dict[str, Any]) -> list[str]:
    """Return the table and where everything lies, for the terminal."""
    if "made" in summary:
        return ["", *(f"{label:<22} {folder}" for label, folder in summary["made"].items())]
    refinement = summary["refinement"]
    lines = ["", f"Domain: {summary['domain']}", "", *summary["table"]]
    for note in summary["notes"]:
        lines += ["", f"Note: {note}."]
    splits = ", ".join(f"{n} {split}" for split, n in refinement["splits"].items())
    lines += ["", f"splits   {splits}"]
    for name, counts in refinement["stages"].items():
        reasons = ", ".join(f"{n} {why}" for why, n in counts["rejected"].items())
        tail = f" ({reasons})" if reasons else ""
        lines.append(f"{name:<8} {counts['in']} rows in, {counts['kept']} kept{tail}")
    targets = ", ".join(f"{n} {kind}" for kind, n in refinement["targets"].items())
    lines += [f"targets  {targets}"] if targets else []
    lines += [f"trained  {line}" for line in summary["training"]]
    lines.append("")
    lines += [f"checkpoint {name:<10} {path}" for name, path in summary["checkpoints"].items()]
    lines += [f"rejected {stage:<12} {path}" for stage, path in summary["rejected"].items()]
    lines.append(f"report                {summary['report']}")
    lines.append(f"every row             {summary['lineage']}")
    return lines
