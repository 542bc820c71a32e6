"""The subcommands of `raft` that run a flow: options, checks, and then the flow.

Bad input ends within a second, because Prefect is imported once all of it has been checked.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from importlib import import_module
from typing import Any

from flows.parameters import (
    checked_study,
    document_settings_of,
    one_method,
    require_place,
    settings_of,
)
from raft_core.app.checks import checked
from raft_core.app.document_settings import checked_documents
from raft_core.app.run import closing_lines, require_stage
from raft_core.app.run import run as run_plain
from raft_core.app.settings import Settings, brings_domain, default_domain
from raft_core.config.runtime import RuntimeConfig
from raft_core.store.private_files import keep_private


def run(arguments: Sequence[str]) -> int:
    """Run the pipeline: `raft run`.

    Raises:
        RaftError: bad input, or a stage failed.
    """
    parameters = vars(run_parser().parse_args(arguments))
    dry_run, as_json, plain = (parameters.pop(name) for name in ("dry_run", "json", "plain"))
    if dry_run:
        print_estimate(parameters, as_json)
        return 0
    settings = checked(settings_of(parameters))
    require_stage(settings, parameters["until"])
    if plain:
        from flows.local import exit_on_interrupt

        keep_private(settings.runtime.home_folder)
        exit_on_interrupt()
        print("\n".join(closing_lines(run_plain(settings, until=parameters["until"]).summary())))
        return 0
    result = call_flow("flows.raft:raft", parameters, settings.runtime, settings)
    from tasks import publish

    publish.show(result)
    return 0


def retrain(arguments: Sequence[str]) -> int:
    """Train on today's rows and promote the model if it holds: `raft retrain`.

    Raises:
        RaftError: bad input, or a stage failed.
    """
    parameters = vars(retrain_parser().parse_args(arguments))
    settings = checked(one_method(settings_of(parameters), parameters["method"]))
    result = call_flow("flows.retrain:retrain", parameters, settings.runtime, settings)
    from tasks import promotion

    promotion.show(result)
    return 0


def documents(arguments: Sequence[str]) -> int:
    """Make pairs of documents: `raft documents`.

    Raises:
        RaftError: bad input, or a stage failed.
    """
    parameters = vars(documents_parser().parse_args(arguments))
    settings = checked_documents(document_settings_of(parameters))
    require_place(parameters["out"], settings.documents.path)
    result = call_flow("flows.prepare:prepare", parameters, settings.runtime)
    from tasks import documents as outcome

    outcome.show(result)
    return 0


def study(arguments: Sequence[str]) -> int:
    """Measure the cells of a plan and write its document: `raft study`.

    Raises:
        RaftError: bad input, or a stage failed.
    """
    parameters = vars(study_parser().parse_args(arguments))
    runtime = checked_study(parameters["study"], parameters["only"])
    result = call_flow("flows.compare:compare", parameters, runtime)
    from flows.compare import show

    show(result)
    return 0


def call_flow(
    entrypoint: str,
    parameters: dict[str, Any],
    runtime: RuntimeConfig,
    early: Settings | None = None,
) -> Any:
    """Import a flow, and with it Prefect, once all input has been checked, and return its result.

    Args:
        entrypoint: the flow as `module:name`.
        parameters: what the flow is called with.
        runtime: which servers and which home it uses.
        early: a run's settings, whose stages are loaded meanwhile.

    Raises:
        RaftError: a server does not answer, or the flow failed.
    """
    from flows.local import load_early, prepare_process, run_flow

    prepare_process(runtime)
    if early is not None:
        load_early(early)
    module, _, name = entrypoint.partition(":")
    return run_flow(getattr(import_module(module), name), parameters)


def print_estimate(parameters: dict[str, Any], as_json: bool) -> None:
    """Print what a run with these parameters would take; start and write nothing.

    A profile without a domain is asked about with assumed rows.
    """
    from raft_core.cost import report
    from raft_core.cost.estimate import estimate

    profile, named = parameters["profile"], parameters["data"] or parameters["domain"]
    assume_rows = not (named or default_domain(profile, None) or brings_domain(profile))
    if assume_rows:
        parameters = parameters | {"data": "assumed"}
    found = estimate(settings_of(parameters), assume_rows=assume_rows, until=parameters["until"])
    if as_json:
        print(json.dumps(report.as_json(found), indent=1))
    else:
        print("\n".join(report.lines(found)))


def run_parser() -> argparse.ArgumentParser:
    """Return the options of `raft run`."""
    parser = pipeline_parser(
        "run",
        "Refine a domain's answers, train with them, and measure.",
        "raft run --domain law",
        "raft run --data rows.jsonl --limit 200 --dry-run",
        "raft run --set filter.tau=0.7 --set methods.raft.learning_rate=6e-4",
        "raft run --until filter --plain",
    )
    parser.add_argument("--dry-run", action="store_true", help="tell what the run would take")
    parser.add_argument("--json", action="store_true", help="with --dry-run: as JSON")
    parser.add_argument("--until", metavar="STAGE", help="end with this stage: --until filter")
    parser.add_argument(
        "--plain", action="store_true", help="without Prefect and MLflow, in this process's loop"
    )
    return parser


def retrain_parser() -> argparse.ArgumentParser:
    """Return the options of `raft retrain`."""
    parser = pipeline_parser(
        "retrain",
        "Train on today's rows, compare with the model in use.",
        "raft retrain --domain law",
        "raft retrain --domain law --force",
    )
    parser.add_argument("--method", default="raft", help="one of the profile's methods")
    parser.add_argument("--force", action="store_true", help="train even where nothing has changed")
    return parser


def documents_parser() -> argparse.ArgumentParser:
    """Return the options of `raft documents`."""
    parser = parser_of(
        "documents",
        "Cut documents, ask about each passage, and keep what several models answer.",
        "raft documents --documents FOLDER --out pairs.jsonl",
        "raft run --data pairs.jsonl",
    )
    parser.add_argument("--profile", default="mini", help="conf/documents/PROFILE.yaml, or a file")
    parser.add_argument("--documents", help="a .txt, .md or .jsonl file, a folder, or a glob")
    parser.add_argument("--out", default="pairs.jsonl", help="the .jsonl file to write")
    parser.add_argument(
        "--limit", type=int, help="use this many documents, chosen by the hash of their ids"
    )
    add_overrides(parser)
    return parser


def study_parser() -> argparse.ArgumentParser:
    """Return the options of `raft study`."""
    parser = parser_of(
        "study",
        "Compare every method on the students, domains and seeds of a plan.",
        "raft study mini",
        "raft study mini --only 'llama/law/0/raft'",
    )
    parser.add_argument(
        "study", nargs="?", default="mini", metavar="PLAN", help="conf/studies/PLAN.yaml, or a file"
    )
    parser.add_argument(
        "--only", default="*", metavar="CELLS", help="student/domain/seed/row, * for any"
    )
    parser.add_argument(
        "--out", default="", help="folder for study.md and its figures; default: docs or docs/PLAN"
    )
    return parser


def parser_of(command: str, description: str, *examples: str) -> argparse.ArgumentParser:
    """Return a command's parser, whose help ends with examples."""
    return argparse.ArgumentParser(
        prog=f"raft {command}",
        description=description,
        epilog="\n  ".join(["examples:", *examples]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def pipeline_parser(command: str, description: str, *examples: str) -> argparse.ArgumentParser:
    """Return the options that choose profile, domain, data and settings."""
    parser = parser_of(command, description, *examples)
    parser.add_argument(
        "--profile", default="mini", help="conf/PROFILE.yaml, or a file; default: mini"
    )
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
    """Add `--set`, which all flows with settings take."""
    parser.add_argument(
        "--set",
        dest="overrides",
        action="append",
        default=[],
        metavar="SECTION.FIELD=VALUE",
        help="override one setting; may be repeated",
    )
