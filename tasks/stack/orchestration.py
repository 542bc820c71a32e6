"""What the Prefect server has to know: work pools, deployments, and when a run is lost."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from raft_core.errors import StageError
from tasks.stack.config import CPU_POOL, GPU_POOL, ROOT, StackConfig

LOST_AFTER = timedelta(seconds=90)
AUTOMATION = "raft: a run without a heartbeat has crashed"
ENDED = ("Completed", "Failed", "Cancelled", "Crashed")


def set_up(config: StackConfig, environment: Mapping[str, str]) -> None:
    """Create or update pools and automation, then deploy everything in prefect.yaml."""
    from prefect.client.orchestration import get_client
    from prefect.settings import PREFECT_API_URL, temporary_settings

    with temporary_settings({PREFECT_API_URL: config.api_url}), get_client(sync_client=True) as api:
        create_pool(api, CPU_POOL, config.flows)
        create_pool(api, GPU_POOL, config.gpus)
        create_automation()
    deploy = [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all"]
    done = subprocess.run(deploy, cwd=ROOT, env=environment, capture_output=True, text=True)
    if done.returncode != 0:
        raise StageError(f"prefect deploy --all failed:\n{done.stdout}{done.stderr}")


def create_pool(api: Any, name: str, limit: int) -> None:
    """A pool of processes that runs at most `limit` flow runs at once."""
    from prefect.client.schemas.actions import WorkPoolCreate, WorkPoolUpdate
    from prefect.exceptions import ObjectNotFound
    from prefect.workers.process import ProcessWorker

    try:
        api.read_work_pool(name)
    except ObjectNotFound:
        template = ProcessWorker.get_default_base_job_template()
        pool = WorkPoolCreate(name=name, type="process", base_job_template=template)
        api.create_work_pool(pool)
    api.update_work_pool(name, WorkPoolUpdate(concurrency_limit=limit))


def create_automation() -> None:
    """Runs whose heartbeats stop, because their machine or worker is gone, become Crashed."""
    from prefect.automations import Automation
    from prefect.client.schemas.objects import StateType
    from prefect.events.actions import ChangeFlowRunState
    from prefect.events.schemas.automations import EventTrigger, Posture

    try:
        Automation.read(name=AUTOMATION)
        return
    except ValueError:
        pass
    heartbeat = "prefect.flow-run.heartbeat"
    Automation(
        name=AUTOMATION,
        trigger=EventTrigger(
            after={heartbeat},
            expect={heartbeat, *(f"prefect.flow-run.{state}" for state in ENDED)},
            match={"prefect.resource.id": ["prefect.flow-run.*"]},
            for_each={"prefect.resource.id"},
            posture=Posture.Proactive,
            threshold=1,
            within=LOST_AFTER,
        ),
        actions=[
            ChangeFlowRunState(
                state=StateType.CRASHED, message="its heartbeat stopped: worker or machine is gone"
            )
        ],
    ).create()


def online_workers(config: StackConfig) -> dict[str, int]:
    """Pool -> workers online; empty where the server does not answer."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.objects import WorkerStatus
    from prefect.exceptions import ObjectNotFound
    from prefect.settings import PREFECT_API_URL, temporary_settings

    found = {}
    with temporary_settings({PREFECT_API_URL: config.api_url}), get_client(sync_client=True) as api:
        for pool in (CPU_POOL, GPU_POOL):
            try:
                workers = api.read_workers_for_work_pool(pool)
            except ObjectNotFound:
                continue
            found[pool] = sum(w.status == WorkerStatus.ONLINE for w in workers)
    return found
