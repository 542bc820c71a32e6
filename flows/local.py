"""Running a flow from the command line: settings first, then Prefect's own temporary API.

Imports nothing heavy, so that bad input ends within a second.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from flows.api import choose_api, wait_for_api
from raft_core.app.checks import checked
from raft_core.app.document_settings import (
    DocumentSettings,
    checked_documents,
    load_document_settings,
)
from raft_core.app.pipeline import STAGES
from raft_core.app.settings import Settings, brings_domain, default_domain, load_settings
from raft_core.app.study_plan import StudyPlan, load_plan
from raft_core.config.base import local_path
from raft_core.config.runtime import RuntimeConfig
from raft_core.errors import InputError, RaftError
from raft_core.evaluation.study.config import BASE, Cell
from raft_core.execution.processes import start_early
from raft_core.store.shared import open_store
from tasks.tracking import end_interrupted

EXIT_INTERRUPTED = 130
# Types of the flows' parameters: the server refuses what does not fit when a run is asked for.
Limit = Annotated[int, Field(gt=0)]
Override = Annotated[str, Field(pattern=r"^[a-z_0-9.]+ *=")]


def pipeline_parser(flow: str, description: str) -> argparse.ArgumentParser:
    """The options that choose profile, domain, data and settings."""
    parser = argparse.ArgumentParser(prog=f"python -m flows.{flow}", description=description)
    parser.add_argument("--profile", default="mini", help="conf/PROFILE.yaml, or a file")
    parser.add_argument("--domain", help="conf/domains/DOMAIN.yaml, or a file")
    parser.add_argument(
        "--data", help="a .jsonl or .parquet file, a datasets folder, or hub:ORG/NAME"
    )
    parser.add_argument(
        "--limit", type=int, help="use this many rows, chosen by the hash of their ids"
    )
    add_overrides(parser)
    return parser


def add_overrides(parser: argparse.ArgumentParser) -> None:
    """`--set`, which all flows with settings take."""
    parser.add_argument(
        "--set",
        dest="overrides",
        action="append",
        default=[],
        metavar="SECTION.FIELD=VALUE",
        help="override one setting; may be repeated",
    )


def settings_of(parameters: dict[str, Any]) -> Settings:
    """The settings that a flow's parameters stand for."""
    domain = parameters["domain"] or default_domain(parameters["profile"], parameters["data"])
    return load_settings(
        parameters["profile"],
        domain,
        parameters["overrides"],
        data=parameters["data"],
        limit=parameters["limit"],
    )


def named(flow: str, parameters: dict[str, Any]) -> str:
    """What a flow run is called. Bad settings are the flow's to refuse: a name must not fail."""
    try:
        return f"{flow} {settings_of(parameters).domain.name}"
    except RaftError:
        return f"{flow} {parameters['domain'] or parameters['data']}"


def checked_parameters(description: str) -> dict[str, Any]:
    """The command line's parameters, once settings, data and models have been checked.

    A dry run ends here, once it has told what the run would take.
    """
    parser = pipeline_parser("raft", description)
    parser.add_argument("--dry-run", action="store_true", help="tell what the run would take")
    parser.add_argument("--json", action="store_true", help="with --dry-run: as JSON")
    parameters = vars(parser.parse_args())
    dry_run, as_json = parameters.pop("dry_run"), parameters.pop("json")
    if dry_run:
        exit_on_error(lambda: tell_cost(parameters, as_json))
        sys.exit(0)
    settings = exit_on_error(lambda: checked(settings_of(parameters)))
    prepare_process(settings.runtime)
    load_early(settings)
    return parameters


def tell_cost(parameters: dict[str, Any], as_json: bool) -> None:
    """Print what a run with these parameters would take; starts and writes nothing.

    A profile without a domain is asked about with assumed rows.
    """
    from raft_core.cost import report
    from raft_core.cost.estimate import estimate

    profile, named = parameters["profile"], parameters["data"] or parameters["domain"]
    assume_rows = not (named or default_domain(profile, None) or brings_domain(profile))
    if assume_rows:
        parameters = parameters | {"data": "assumed"}
    found = estimate(settings_of(parameters), assume_rows=assume_rows)
    if as_json:
        print(json.dumps(report.as_json(found), indent=1))
    else:
        print("\n".join(report.lines(found)))


def retrain_parameters(description: str) -> dict[str, Any]:
    """The command line of a retraining, checked likewise."""
    parser = pipeline_parser("retrain", description)
    parser.add_argument("--method", default="raft", help="one of the profile's methods")
    parser.add_argument("--force", action="store_true", help="train even where nothing has changed")
    parameters = vars(parser.parse_args())
    settings = exit_on_error(
        lambda: checked(one_method(settings_of(parameters), parameters["method"]))
    )
    prepare_process(settings.runtime)
    load_early(settings)
    return parameters


def prepare_parameters(description: str) -> dict[str, Any]:
    """The command line of a preparation of documents, checked likewise."""
    parser = argparse.ArgumentParser(prog="python -m flows.prepare", description=description)
    parser.add_argument("--profile", default="mini", help="conf/documents/PROFILE.yaml, or a file")
    parser.add_argument("--documents", help="a .txt, .md or .jsonl file, a folder, or a glob")
    parser.add_argument("--out", default="pairs.jsonl", help="the .jsonl file to write")
    parser.add_argument(
        "--limit", type=int, help="use this many documents, chosen by the hash of their ids"
    )
    add_overrides(parser)
    parameters = vars(parser.parse_args())
    settings = exit_on_error(lambda: checked_documents(document_settings_of(parameters)))
    exit_on_error(lambda: require_place(parameters["out"], settings.documents.path))
    prepare_process(settings.runtime)
    return parameters


def document_settings_of(parameters: dict[str, Any]) -> DocumentSettings:
    """The settings that the parameters of a preparation stand for."""
    return load_document_settings(
        parameters["profile"],
        parameters["documents"],
        parameters["overrides"],
        limit=parameters["limit"],
    )


def require_place(out: str, documents: str) -> Path:
    """Where the pairs of these documents are to be written, if they can be.

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
    """The settings of a run that trains this method alone.

    Raises:
        InputError: the profile has no such method.
    """
    if method not in settings.methods:
        raise InputError(f"methods has no '{method}'; it has {', '.join(settings.methods)}")
    return settings.model_copy(update={"methods": {method: settings.methods[method]}})


def compare_parameters(description: str) -> dict[str, Any]:
    """The command line of a study, once its plan and all that its cells name have been checked."""
    parser = argparse.ArgumentParser(prog="python -m flows.compare", description=description)
    parser.add_argument(
        *("--study", "--profile"), default="mini", help="conf/studies/STUDY.yaml, or a file"
    )
    parser.add_argument(
        "--only", default="*", metavar="CELLS", help="student/domain/seed/row, * for any"
    )
    parser.add_argument(
        "--out", default="", help="folder for study.md and its figures; default: docs or docs/STUDY"
    )
    parameters = vars(parser.parse_args())
    prepare_process(exit_on_error(lambda: checked_study(parameters["study"], parameters["only"])))
    return parameters


def checked_study(study: str, only: str) -> RuntimeConfig:
    """How the stages of a study run that can be run.

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
    """A cell's settings, checked and with its models pinned."""
    return checked(plan.settings(cell, learning_rate))


def prepare_process(runtime: RuntimeConfig) -> None:
    """Once all input is checked and before Prefect is imported: its API, and what Ctrl-C does.

    The collector rests until the flow runs: imports leave hardly any garbage.
    """
    gc.disable()
    exit_on_error(lambda: choose_api(runtime))
    exit_on_interrupt()


def load_early(settings: Settings) -> None:
    """Begin to load what the stages share, unless the store has the first of them: maybe all."""
    first = STAGES["prepare"].spec(settings.prepare_stage(), {}, settings.runtime)
    if not exit_on_error(lambda: open_store(settings.runtime)).is_kept(first):
        start_early(settings.runtime)


def run_flow(flow: Callable[..., Any], parameters: dict[str, Any]) -> Any:
    """What the flow returns, once its API answers."""

    def run() -> Any:
        gc.freeze()
        gc.enable()
        wait_for_api()
        return flow(**parameters)

    return exit_on_error(run)


def exit_on_error(action: Callable[[], Any]) -> Any:
    """What `action` returns; an error that is meant for the user ends the process with it."""
    try:
        return action()
    except RaftError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)


def exit_on_interrupt() -> None:
    """Ctrl-C ends the run at once: stages end with it, and what they finished is kept.

    MLflow is told, if it listens; a second Ctrl-C does not wait for that.
    """

    def end(*_: Any) -> None:
        signal.signal(signal.SIGINT, lambda *_: os._exit(EXIT_INTERRUPTED))
        try:
            print(
                "\ninterrupted; finished stages are kept: the same command goes on from there",
                file=sys.stderr,
                flush=True,
            )
            # The stages that ended with it are no failures to be told.
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
            end_interrupted()
        finally:
            os._exit(EXIT_INTERRUPTED)

    signal.signal(signal.SIGINT, end)
