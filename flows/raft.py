"""The pipeline: refine a domain's answers, train with them, and see what was learned and lost.

`python -m flows.raft --domain law` runs it on this machine.
"""

from __future__ import annotations

if __name__ == "__main__":
    # Before Prefect is imported, which takes seconds: bad input ends at once.
    from flows.local import checked_parameters

    PARAMETERS = checked_parameters(__doc__)

from typing import Any

from prefect import flow
from prefect.runtime import flow_run
from prefect.task_runners import ThreadPoolTaskRunner

from flows.local import Limit, Override, named, run_flow, settings_of
from raft_core.app.checks import checked
from raft_core.app.pipeline import full_run, prepare_node, training_rows
from tasks import publish
from tasks.pipeline import submit_graph, warn_judge_overlap
from tasks.run_context import open_context
from tasks.tracking import Tracker

MAX_WAITING_TASKS = 64


def run_name() -> str:
    """The flow run's name, by its domain."""
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
) -> dict[str, Any]:
    """Refine a domain's answers, train every method on them, and see what was learned and lost.

    Args:
        profile: Machine and models: the name of a file in conf/, or a path.
        domain: Data and what belongs to it: the name of a file in conf/domains/, or a path.
        data: A .jsonl or .parquet file, a datasets folder or hub:ORG/NAME, not the domain's own.
        limit: Use this many rows, chosen by the hash of their ids.
        overrides: Settings on top of the files, each as section.field=value.
    """
    parameters = {"profile": profile, "domain": domain, "data": data, "limit": limit}
    settings = checked(settings_of(parameters | {"overrides": overrides}))
    with open_context(settings.runtime, Tracker.of(settings)) as context:
        warn_judge_overlap(context, settings)
        prepare = prepare_node(settings)
        made = submit_graph(context, [prepare])
        run = full_run(settings, prepare, training_rows(made[prepare]))
        made = submit_graph(context, run.nodes, made)
        context.tracker.log_report(made[run.report])
        return publish.results(context, settings, run, made)


if __name__ == "__main__":
    publish.show(run_flow(raft, PARAMETERS))
