"""What the parameters of a flow stand for: settings, checked before anything is started."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from raft_core.app.checks import checked
from raft_core.app.document_settings import DocumentSettings, load_document_settings
from raft_core.app.settings import Settings, default_domain, load_settings
from raft_core.app.study_plan import StudyPlan, load_plan
from raft_core.config.base import local_path
from raft_core.config.runtime import RuntimeConfig
from raft_core.errors import InputError, RaftError
from raft_core.evaluation.study.config import BASE, Cell

# Types of the flows' parameters: the server refuses what does not fit when a run is asked for.
Limit = Annotated[int, Field(gt=0)]
Override = Annotated[str, Field(pattern=r"^[a-z_0-9.]+ *=")]
StageName = Annotated[str, Field(pattern=r"^[a-z]+$")]


def settings_of(parameters: dict[str, Any]) -> Settings:
    """Return the settings that a flow's parameters stand for."""
    domain = parameters["domain"] or default_domain(parameters["profile"], parameters["data"])
    return load_settings(
        parameters["profile"],
        domain,
        parameters["overrides"],
        data=parameters["data"],
        limit=parameters["limit"],
    )


def named(flow: str, parameters: dict[str, Any]) -> str:
    """Return what a flow run is called; bad settings are the flow's to refuse."""
    try:
        return f"{flow} {settings_of(parameters).domain.name}"
    except RaftError:
        return f"{flow} {parameters['domain'] or parameters['data']}"


def document_settings_of(parameters: dict[str, Any]) -> DocumentSettings:
    """Return the settings that the parameters of a preparation of documents stand for."""
    return load_document_settings(
        parameters["profile"],
        parameters["documents"],
        parameters["overrides"],
        limit=parameters["limit"],
    )


def require_place(out: str, documents: str) -> Path:
    """Return where the pairs of these documents are to be written, if they can be.

    Raises:
        InputError: it is no JSONL file that can be made, or one that would be read as a document.
    """
    path = local_path(out, "--out").absolute()
    if path.suffix != ".jsonl":
        raise InputError(f"out '{out}': name a .jsonl file, which `--data` takes as it is")
    parent = next(folder for folder in path.parents if folder.exists())
    if path.is_dir() or not parent.is_dir() or not os.access(parent, os.W_OK):
        raise InputError(f"out '{out}': no file can be written there")
    given = local_path(documents, "documents").absolute()
    if given == path or (given.is_dir() and given in path.parents):
        raise InputError(f"out '{out}' lies among the documents; the next run would read it")
    return path


def one_method(settings: Settings, method: str) -> Settings:
    """Return the settings of a run that trains this method alone.

    Raises:
        InputError: the profile has no such method.
    """
    if method not in settings.methods:
        raise InputError(f"methods has no '{method}'; it has {', '.join(settings.methods)}")
    return settings.model_copy(update={"methods": {method: settings.methods[method]}})


def checked_study(study: str, only: str) -> RuntimeConfig:
    """Return how the stages of a study run, once all that its cells name has been checked.

    Raises:
        InputError: the plan, a cell's settings or what they name cannot be used.
    """
    plan = load_plan(study)
    cells = plan.cells(only)
    if not cells:
        raise InputError(
            f"study '{study}': no cell is named like '{only}'; one is '{plan.cells()[-1].name}'"
        )
    for cell in cells:
        settings = checked_cell(plan, cell, None if cell.row == BASE else plan.rates[0])
    return settings.runtime


def checked_cell(plan: StudyPlan, cell: Cell, learning_rate: float | None = None) -> Settings:
    """Return a cell's settings, checked and with its models pinned."""
    return checked(plan.settings(cell, learning_rate))
