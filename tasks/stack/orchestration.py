"""Set up the Prefect server: work pools, deployments, and when a run counts as lost."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from contextlib import AbstractContextManager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

from raft_core.errors import StageError
from tasks.stack.config import CPU_POOL, GPU_POOL, ROOT, StackConfig
from tasks.stack.services import LOGGING_FILE

LOST_AFTER = timedelta(seconds=90)
AUTOMATION = "raft: a run without a heartbeat has crashed"
# States by name, those that flows here define included.
ENDED = (
    *("Completed", "Failed", "Cancelled", "Crashed"),
    *("Promoted", "Refused", "Unchanged", "Unwell"),
)


def set_up(config: StackConfig, environment: Mapping[str, str]) -> None:
    """Create or update pools and automation, then deploy everything in prefect.yaml."""
    from prefect.client.orchestration import get_client

    with asking(config), get_client(sync_client=True) as api:
        create_pool(api, CPU_POOL, config.flows)
        create_pool(api, GPU_POOL, config.gpus)
        create_automation()
    deploy = [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all"]
    done = subprocess.run(deploy, cwd=ROOT, env=environment, capture_output=True, text=True)
    if done.returncode != 0:
        raise StageError(f"prefect deploy --all failed:\n{done.stdout}{done.stderr}")


def asking(config: StackConfig) -> AbstractContextManager[Any]:
    """Point Prefect's clients in this process at the configured server, with its login."""
    from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings

    asked: dict[Any, Any] = {PREFECT_API_URL: config.api_url}
    if config.login is not None:
        asked[PREFECT_API_AUTH_STRING] = config.login
    return temporary_settings(asked)


def write_logging(folder: Path) -> None:
    """Write Prefect's logging configuration, without the errors of one background task.

    On SQLite that task (marking deployments ready) collides with each poll of a worker, is tried
    again, and would fill the log with some hundred tracebacks an hour.
    """
    import yaml
    from prefect.logging.configuration import DEFAULT_LOGGING_SETTINGS_PATH

    settings = yaml.safe_load(Path(DEFAULT_LOGGING_SETTINGS_PATH).read_text())
    settings["loggers"]["docket"] = {"level": "CRITICAL"}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / LOGGING_FILE).write_text(yaml.safe_dump(settings))


def create_pool(api: Any, name: str, limit: int) -> None:
    """Create or update a pool of processes that runs at most `limit` flow runs at once."""
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
    """Mark runs as Crashed whose heartbeats stop, because their machine or worker is gone."""
    from prefect.automations import Automation
    from prefect.client.schemas.objects import StateType
    from prefect.events.actions import ChangeFlowRunState
    from prefect.events.schemas.automations import EventTrigger, Posture

    heartbeat = "prefect.flow-run.heartbeat"
    wanted = Automation(
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
    )
    with suppress(ValueError):  # there is none yet
        known = Automation.read(name=AUTOMATION)
        # A new automation has not seen earlier heartbeats, so an unchanged one is kept.
        if isinstance(known.trigger, EventTrigger) and same(known.trigger, wanted.trigger):
            return
        known.delete()
    wanted.create()


def same(one: Any, other: Any) -> bool:
    """Return whether two triggers wait for the same events for the same time."""
    return (one.expect, one.after, one.within) == (other.expect, other.after, other.within)


def online_workers(config: StackConfig) -> dict[str, int]:
    """Return the workers online by pool; none where the server does not answer."""
    from httpx import HTTPError
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.objects import WorkerStatus
    from prefect.exceptions import ObjectNotFound

    found: dict[str, int] = {}
    with asking(config), get_client(sync_client=True) as api:
        for pool in (CPU_POOL, GPU_POOL):
            try:
                workers = api.read_workers_for_work_pool(pool)
            except (ObjectNotFound, HTTPError):  # it is not set up yet, or unwell
                continue
            found[pool] = sum(w.status == WorkerStatus.ONLINE for w in workers)
    return found
