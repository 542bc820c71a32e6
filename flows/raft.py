"""The pipeline: refine a domain's answers, train with them, and see what was learned and lost."""

from __future__ import annotations

from functools import partial
from typing import Any

from prefect import flow
from prefect.runtime import flow_run
from prefect.task_runners import ThreadPoolTaskRunner

from flows.parameters import Limit, Override, StageName, named, settings_of
from raft_core.app.checks import checked
from raft_core.app.run import require_stage, walk
from tasks import publish
from tasks.pipeline import submit_graph, warn_judge_overlap
from tasks.run_context import open_context
from tasks.tracking import Tracker

MAX_WAITING_TASKS = 64


def run_name() -> str:
    """Return the flow run's name, by its domain."""
    return named("raft", flow_run.parameters)


@flow(
    name="raft",
    flow_run_name=run_name,
    task_runner=ThreadPoolTaskRunner(max_workers=MAX_WAITING_TASKS),
    persist_result=False,
)
def raft(
    profile: str = "mini",
    domain: str | None = None,
    data: str | None = None,
    limit: Limit | None = None,
    overrides: list[Override] = [],  # noqa: B006 (Prefect reads the default and never changes it)
    until: StageName | None = None,
) -> dict[str, Any]:
    """Refine a domain's answers, train every method on them, and see what was learned and lost.

    Args:
        profile: Machine and models: the name of a file in conf/, or a path.
        domain: Data and what belongs to it: the name of a file in conf/domains/, or a path.
        data: A .jsonl or .parquet file, a datasets folder or hub:ORG/NAME, not the domain's own.
        limit: Use this many rows, chosen by the hash of their ids.
        overrides: Settings on top of the files, each as section.field=value.
        until: The stage that the run ends with, in place of the report.
    """
    parameters = {"profile": profile, "domain": domain, "data": data, "limit": limit}
    settings = checked(settings_of(parameters | {"overrides": overrides}))
    require_stage(settings, until)
    with open_context(settings.runtime, Tracker.of(settings)) as context:
        warn_judge_overlap(context, settings)
        run = walk(settings, partial(submit_graph, context), until)
        return publish.results(context, run)
