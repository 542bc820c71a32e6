"""What all runs share: calls that never take a flow down, metrics and parameters in batches."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping
from functools import wraps
from pathlib import Path
from typing import Any

EXPERIMENT = "raft"
UI_PORT = 5000
METRICS_A_CALL = 900
logger = logging.getLogger("raft.tracking")


def never_fatal(method: Callable[..., Any]) -> Callable[..., Any]:
    """Turn a failing call to MLflow into one warning."""

    @wraps(method)
    def guarded(self: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return method(self, *args, **kwargs)
        except Exception as error:  # whatever a tracking server does must not stop training
            logger.warning("MLflow: %s failed: %s", method.__name__, error)
            return None

    return guarded


def experiment_id(tracking_uri: str) -> str | None:
    """The experiment that RAFT logs to, or None where nothing was logged yet."""
    from mlflow import MlflowClient

    database = tracking_uri.removeprefix("sqlite:///")
    if tracking_uri.startswith("sqlite:") and not Path(database).is_file():
        return None
    experiment = MlflowClient(tracking_uri).get_experiment_by_name(EXPERIMENT)
    return None if experiment is None else str(experiment.experiment_id)


def numbers(entry: Mapping[str, Any]) -> dict[str, float]:
    """The numeric entries of a curve's point, its step left out."""
    return {k: float(v) for k, v in entry.items() if isinstance(v, int | float) and k != "step"}


def log_metrics(client: Any, run_id: str, values: Mapping[str, float], step: int = 0) -> None:
    from mlflow.entities import Metric

    now = int(time.time() * 1000)
    client.log_batch(run_id, metrics=[Metric(k, float(v), now, step) for k, v in values.items()])


def log_curves(client: Any, run_id: str, points: Iterable[Mapping[str, Any]]) -> None:
    """A whole training's points, in as few calls as may be."""
    from mlflow.entities import Metric

    now = int(time.time() * 1000)
    metrics = [
        Metric(name, value, now, int(point["step"]))
        for point in points
        for name, value in numbers(point).items()
    ]
    for start in range(0, len(metrics), METRICS_A_CALL):
        client.log_batch(run_id, metrics=metrics[start : start + METRICS_A_CALL])


def log_params(client: Any, run_id: str, config: Mapping[str, Any]) -> None:
    """Nested settings as flat parameters, cut to the length that MLflow takes."""
    from mlflow.entities import Param

    flat = [Param(name, str(value)[:500]) for name, value in flatten(config)]
    for start in range(0, len(flat), 100):
        client.log_batch(run_id, params=flat[start : start + 100])


def flatten(value: Any, name: str = "") -> Iterable[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from flatten(item, f"{name}.{key}" if name else str(key))
    else:
        yield name, value
