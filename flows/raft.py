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
from raft_core.store.artifacts import ArtifactRef
from tasks import pipeline, publish
from tasks.stage import RunContext, open_context
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
    with open_context(settings, Tracker.of(settings)) as context:
        artifacts = run_stages(context)
        context.tracker.log_report(artifacts["report"])
        return publish.results(context, artifacts)


def run_stages(context: RunContext) -> dict[str, ArtifactRef]:
    """Every stage in its order; what does not depend on each other runs side by side."""
    pipeline.tell_overlap(context)
    refined = pipeline.refine(context)
    base = pipeline.evaluate_model(context, pipeline.BASE, refined.prepared)
    readable = pipeline.gate.submit(context, base)

    trained, evaluated = {}, {}
    for method in slowest_first(context):
        trained[method] = pipeline.train(context, method, method, refined, wait_for=[readable])
        evaluated[method] = pipeline.evaluate_model(
            context, method, refined.prepared, trained[method]
        )

    lineage = pipeline.tell_lineage(context, refined)
    inputs = {"prepare": refined.prepared, "filter": refined.filtered, "fuse": refined.fused}
    inputs["evaluate.base"] = base
    inputs |= {f"distill.{name}": future for name, future in trained.items()}
    inputs |= {f"evaluate.{name}": future for name, future in evaluated.items()}
    report = pipeline.report.submit(context, inputs)
    return pipeline.finished(context, inputs | {"report": report, "lineage": lineage})


def slowest_first(context: RunContext) -> list[str]:
    """Methods with a teacher take longest: start them first, finish all earlier."""
    methods = context.settings.methods
    return sorted(methods, key=lambda name: not methods[name].samples)


if __name__ == "__main__":
    publish.show(run_flow(raft, PARAMETERS))
