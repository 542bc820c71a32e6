"""A stage in another work pool: as a run of that pool's deployment, `stage/POOL`.

Only keys travel; what the stage reads and makes lies in the store that both machines use.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import FlowRun, WorkerStatus
from prefect.deployments import run_deployment
from prefect.events.filters import (
    EventFilter,
    EventNameFilter,
    EventOccurredFilter,
    EventOrder,
    EventResourceFilter,
)
from prefect.exceptions import ObjectNotFound
from prefect.states import Cancelling

from raft_core.config.runtime import RuntimeConfig
from raft_core.errors import StageError, UnwellError
from raft_core.execution.execute import Remote
from raft_core.store.artifacts import StageSpec
from tasks.tracking import Tracker

POLL_SECONDS = 2.0
# Three heartbeats: a run of which none was heard for so long is given up for good.
SILENCE = timedelta(seconds=90)
FLOW = "stage"
UNWELL = "Unwell"  # the state of a training that ended itself


def pool_for(stage: str, runtime: RuntimeConfig) -> str | None:
    """The work pool that runs this stage: the runtime's, where a worker of it is online."""
    pool = runtime.pools.get(stage)
    return pool if pool is not None and has_worker(pool) else None


def remote_in_pool(
    runtime: RuntimeConfig, tracker: Tracker
) -> Callable[[StageSpec], Remote | None]:
    """Return what tells where a stage runs: its pool, or here where no worker of it is online."""

    def remote(spec: StageSpec) -> Remote | None:
        pool = pool_for(spec.stage, runtime)
        if pool is None:
            return None

        def run(spec: StageSpec, label: str) -> None:
            run_in_pool(pool, spec, runtime, label, tracker.run_id)

        return Remote(f"work pool {pool}", run)

    return remote


def has_worker(pool: str) -> bool:
    with _client() as client:
        try:
            # Asked for the workers of an unknown pool the client fails in a way of its own.
            client.read_work_pool(pool)
            client.read_deployment_by_name(f"{FLOW}/{pool}")
            workers = client.read_workers_for_work_pool(pool)
        except ObjectNotFound:
            return False
    return any(worker.status == WorkerStatus.ONLINE for worker in workers)


def addressed(spec: StageSpec, runtime: RuntimeConfig) -> dict[str, Any]:
    """The specification as it travels, with the addresses of this machine's store and runs."""
    sent = spec.model_copy(update={"runtime": spec.runtime | runtime.addresses()})
    return sent.model_dump(mode="json")


def run_in_pool(
    pool: str, spec: StageSpec, runtime: RuntimeConfig, label: str, mlflow_run: str
) -> None:
    """Run the stage in the pool and wait for its end; a run that ends early takes it along.

    Raises:
        StageError: it did not complete.
    """
    run = run_deployment(
        f"{FLOW}/{pool}",
        parameters={"spec": addressed(spec, runtime), "label": label, "mlflow_run": mlflow_run},
        flow_run_name=label,
        timeout=0,
    )
    try:
        ended = wait_for(run.id)
    except BaseException:
        _cancel(run.id)
        raise
    state = ended.state
    if state is None or not state.is_completed():
        told = "" if state is None else f" is {state.name}: {state.message}"
        kind = UnwellError if state is not None and state.name == UNWELL else StageError
        raise kind(f"stage '{label}' in pool {pool}{told} (flow run {ended.name})")


def wait_for(run_id: UUID) -> FlowRun:
    with _client() as client:
        while True:
            run = client.read_flow_run(run_id)
            if run.state is not None and run.state.is_final() and not is_alive(client, run):
                return run
            time.sleep(POLL_SECONDS)


def is_alive(client: SyncPrefectClient, run: FlowRun) -> bool:
    """Whether a run that was given up goes on: the server was away, and did not see its heartbeats.

    A server that comes back marks every run Crashed of which it saw none for a while; a run that
    lives sends the next one soon, and ends in a state of its own.
    """
    state = run.state
    if state is None or not state.is_crashed():
        return False
    seen = EventFilter(
        event=EventNameFilter(name=["prefect.flow-run.heartbeat"]),
        resource=EventResourceFilter(id=[f"prefect.flow-run.{run.id}"]),
        occurred=EventOccurredFilter(since=state.timestamp),
        order=EventOrder.DESC,
    )
    latest = [event.occurred for event in client.read_events(filter=seen, limit=1).events]
    heard = latest[0] if latest else state.timestamp
    return datetime.now(UTC) - heard < SILENCE


def _cancel(run_id: UUID) -> None:
    with _client() as client:
        client.set_flow_run_state(run_id, Cancelling(message="the flow that asked for it ended"))


def _client() -> SyncPrefectClient:
    client: Any = get_client(sync_client=True)
    return client
