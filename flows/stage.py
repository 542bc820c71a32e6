"""One stage on its own: what a worker of a GPU pool runs for a flow elsewhere."""

from __future__ import annotations

from typing import Any

from prefect import flow
from prefect.states import Failed, State

from raft_core.errors import UnwellError
from tasks import remote
from tasks.pools import UNWELL


@flow(name="stage", persist_result=False)
def stage(spec: dict[str, Any], label: str, mlflow_run: str) -> dict[str, str] | State[Any]:
    """Make a stage's artifact, or find it; inputs and artifact lie in the shared store.

    Args:
        spec: The stage's specification, as its spec.json holds it.
        label: What the flow calls the stage.
        mlflow_run: The id of the MLflow run that the stage is part of.

    Returns:
        Stage and key of the artifact; a training that ended itself is a failure of its own name.
    """
    try:
        return remote.make(spec, label, mlflow_run)
    except UnwellError as unwell:
        return Failed(name=UNWELL, message=str(unwell))
