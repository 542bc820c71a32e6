"""Scheduled retraining: train on today's rows, compare with the model in use, promote or not."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from prefect import flow
from prefect.runtime import flow_run
from prefect.states import State
from prefect.task_runners import ThreadPoolTaskRunner

from flows.parameters import Limit, Override, named, one_method, settings_of
from raft_core.app.checks import checked
from raft_core.app.model_lineage import lineage
from raft_core.app.pipeline import prepare_node, retraining, training_rows
from raft_core.store.artifacts import ArtifactRef
from tasks import promotion
from tasks.pipeline import submit_graph, warn_judge_overlap
from tasks.run_context import RunContext, open_context
from tasks.tracking import Registry, Tracker, Version

MAX_WAITING_TASKS = 64


def run_name() -> str:
    """The flow run's name, by its domain."""
    return named("retrain", flow_run.parameters)


@flow(
    name="retrain",
    flow_run_name=run_name,
    task_runner=ThreadPoolTaskRunner(max_workers=MAX_WAITING_TASKS),
    persist_result=False,
)
def retrain(
    profile: str = "mini",
    domain: str | None = None,
    data: str | None = None,
    limit: Limit | None = None,
    method: str = "raft",
    force: bool = False,
    overrides: list[Override] = [],  # noqa: B006 (Prefect reads the default and never changes it)
) -> State[Any]:
    """End early where nothing changed; else train a challenger, and promote it or say why not.

    Args:
        profile: Machine and models: the name of a file in conf/, or a path.
        domain: Data and what belongs to it: the name of a file in conf/domains/, or a path.
        data: A .jsonl or .parquet file, a datasets folder or hub:ORG/NAME, not the domain's own.
        limit: Use this many rows, chosen by the hash of their ids.
        method: The one of the profile's methods that is trained.
        force: Train even where neither data nor models nor settings have changed.
        overrides: Settings on top of the files, each as section.field=value.
    """
    parameters = {"profile": profile, "domain": domain, "data": data, "limit": limit}
    settings = checked(one_method(settings_of(parameters | {"overrides": overrides}), method))
    registry = Registry(settings.runtime, settings.domain.name)
    made_of = lineage(settings)
    latest = next(iter(registry.versions()), None)
    if latest is not None and latest.decision and latest.lineage == made_of and not force:
        return promotion.unchanged(settings, latest)
    with open_context(settings.runtime, Tracker.of(settings)) as context:
        champion = champion_of(context, registry)
        known = None if champion is None else (champion.prepared, champion.trained)
        warn_judge_overlap(context, settings)
        prepare = prepare_node(settings)
        made = submit_graph(context, [prepare])
        run = retraining(settings, method, prepare, training_rows(made[prepare]), known)
        made = submit_graph(context, [run.promote], made)
        version = registry.register(
            made[run.trained],
            context.tracker.experiment_id,
            context.tracker.run_id,
            {"prepared": made[prepare], "trained": made[run.trained]},
            made_of,
        )
        decision = json.loads((made[run.promote].folder / "decision.json").read_text())
        version = registry.decide(version, promote=decision["promote"])
        replaced = champion.version if champion else None
        return promotion.decided(context, settings, version, replaced, made[run.promote])


@dataclass(frozen=True)
class Champion:
    """The version in use, with the rows that it was accepted on."""

    version: Version
    prepared: ArtifactRef
    trained: ArtifactRef


def champion_of(context: RunContext, registry: Registry) -> Champion | None:
    """The champion with its artifacts.

    Raises:
        StageError: the store has lost them.
    """
    version = registry.champion()
    if version is None:
        return None
    prepared, trained = (
        context.store.fetch(*version.artifact(role)) for role in ("prepared", "trained")
    )
    return Champion(version, prepared, trained)
