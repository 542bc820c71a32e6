"""Stage `study`: all cells of a comparison become one document, its figures and its numbers."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from raft_core.data.records import write_jsonl
from raft_core.evaluation.study import figures
from raft_core.evaluation.study.analysis import Analysis, analyse
from raft_core.evaluation.study.config import StudyStage
from raft_core.evaluation.study.document import Figures, as_markdown
from raft_core.evaluation.study.results import CellResult, Results, load_results
from raft_core.execution.stage import StageRun

DIGITS = 8
KINDS = ("frontier", "ratios", "distances")


def run(stage: StageRun) -> None:
    """Writes study.md, study.json, cells.jsonl and figures/.

    study.md links to its figures as `study/NAME.png`: it is read beside a folder `study` that holds
    what stands in figures/.
    """
    config: StudyStage = stage.config
    stage.progress.start("study", 3)
    results = load_results(config, stage.inputs)
    write_jsonl(stage.out / "cells.jsonl", cell_lines(results))
    stage.progress.advance()
    analysis = analyse(results)
    numbers = rounded(as_numbers(results, analysis))
    (stage.out / "study.json").write_text(json.dumps(numbers, indent=1, allow_nan=False))
    stage.progress.advance()
    drawn = draw(results, analysis, stage.out / "figures")
    page = as_markdown(results, analysis, drawn)
    (stage.out / "study.md").write_text(page, encoding="utf-8")
    stage.progress.advance()


def cell_lines(results: Results) -> Iterator[dict[str, Any]]:
    """One line a cell: accuracies, counts, rate, weight distance and seconds."""
    for cell, result in results.cells.items():
        rates = results.config.rows[cell.row].learning_rates
        yield rounded(
            {
                **cell.model_dump(),
                "learning_rate": rates.get(cell.student),
                "accuracy": {name: scored.accuracy for name, scored in result.scored.items()},
                "counts": counts(result),
                "weight_distance": result.weight_distance,
                "training": result.training or None,
                "seconds": result.seconds,
            }
        )


def counts(result: CellResult) -> dict[str, dict[str, int]]:
    return {
        name: {
            "n": len(scored.ids),
            "correct": int(scored.correct_N.sum()),
            "clusters": len(set(scored.clusters)),
            "undecided": scored.undecided,
        }
        for name, scored in result.scored.items()
    }


def as_numbers(results: Results, analysis: Analysis) -> dict[str, Any]:
    """Everything that the document states, as plain values."""
    config = results.config
    return {
        "title": config.title,
        "command": config.command,
        "environment": config.environment,
        "cells": {
            "planned": len(config.cells),
            "measured": len(results.cells),
            "missing": results.missing,
        },
        "seconds": results.seconds,
        "rows": {row: info.model_dump(mode="json") for row, info in config.rows.items()},
        "grid": config.grid,
        "paper_gains": {name: gain.model_dump() for name, gain in config.paper_gains.items()},
        **asdict(analysis),
    }


def rounded(value: Any) -> Any:
    """The same with floats of DIGITS significant digits: the last ones depend on the machine."""
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(item) for item in value]
    return float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value


def draw(results: Results, analysis: Analysis, folder: Path) -> Figures:
    """Draw what can be drawn; title -> (student, file name)."""
    folder.mkdir(parents=True, exist_ok=True)
    drawn: dict[str, list[tuple[str, str]]] = {}
    for student in analysis.students:
        name = student.student
        stem = re.sub(r"[^A-Za-z0-9.-]+", "-", name)
        frontier, ratios, distances = (f"{kind}-{stem}.png" for kind in KINDS)
        if figures.frontier(student, results.config, folder / frontier):
            drawn.setdefault("Learned and kept", []).append((name, frontier))
        if figures.loss_ratios(results, name, folder / ratios):
            drawn.setdefault("Ratio of the losses", []).append((name, ratios))
        if figures.weight_distances(results, name, folder / distances):
            drawn.setdefault("Distance from the base", []).append((name, distances))
    return drawn
