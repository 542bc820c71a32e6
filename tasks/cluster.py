"""Shards of a stage on a Ray cluster, each a Prefect task on one of its workers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from prefect import flow, task
from prefect.cache_policies import NO_CACHE

from raft_core.store.artifacts import ArtifactRef, StageSpec
from tasks.pools import addressed
from tasks.stage import RunContext


@task(name="shard", task_run_name="{label}", cache_policy=NO_CACHE, persist_result=False)
def shard(spec: dict[str, Any], label: str, mlflow_run: str) -> dict[str, str]:
    from tasks import remote

    return remote.make(spec, label, mlflow_run)


@flow(name="shards", persist_result=False)
def shards(specs: Mapping[str, dict[str, Any]], mlflow_run: str) -> list[dict[str, str]]:
    """Make the artifact of every specification, by label."""
    made = [shard.submit(spec, label, mlflow_run) for label, spec in specs.items()]
    return [future.result() for future in made]


def on_ray(
    context: RunContext, specs: Sequence[StageSpec], labels: Sequence[str]
) -> list[ArtifactRef]:
    """The artifacts of all specifications, made by the cluster's workers through the store."""
    from prefect_ray import RayTaskRunner

    missing = {}
    for label, spec in zip(labels, specs, strict=True):
        with context.store.lock(spec):
            if context.store.find(spec) is None:
                missing[label] = spec
    for label in set(labels) - set(missing):
        context.display.cached(label)
    if missing:
        runner = RayTaskRunner(address=context.runtime.ray_address)
        plain = {label: addressed(spec, context.runtime) for label, spec in missing.items()}
        with context.noting_failure():
            shards.with_options(task_runner=runner)(plain, context.tracker.run_id)
    return [context.store.fetch(spec.stage, spec.key) for spec in specs]
