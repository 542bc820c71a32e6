"""A stage for a flow that runs elsewhere: in another pool's worker, or on a Ray cluster."""

from __future__ import annotations

import os
from typing import Any

from raft_core.app.pipeline import STAGES
from raft_core.config.runtime import RuntimeConfig
from raft_core.execution.execute import execute, open_execution
from raft_core.execution.terminal import Terminal
from raft_core.store.artifacts import StageSpec
from tasks.tracking import JoinedTracker, Tracker

# One stage alone: nothing to fork it from, and nowhere to send it on to.
ALONE: dict[str, Any] = {"pools": {}, "preload": (), "task_runner": "threads"}


def make(spec: dict[str, Any], label: str, mlflow_run: str) -> dict[str, str]:
    """Make the artifact of a specification, or find it; returns its stage and key.

    What it reads and makes lies in the store that both machines use. It is logged below the flow's
    MLflow run; where that is not known, because the server was away, in a run of its own.
    """
    wanted = StageSpec.model_validate(spec)
    sent = dict(wanted.runtime)
    if os.environ.get("MLFLOW_TRACKING_URI"):  # as RAFT_STORE, this machine's own setting wins
        sent.pop("mlflow_uri", None)
    runtime = RuntimeConfig.model_validate(sent | ALONE)
    tracker = JoinedTracker(runtime, mlflow_run) if mlflow_run else Tracker(runtime, label, {}, {})
    with open_execution(runtime, STAGES, (Terminal(), tracker)) as run:
        made = execute(run, run.store.localised(wanted), label).artifact
    return {"stage": made.stage, "key": made.key}
