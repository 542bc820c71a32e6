"""What all runs share: logging that never takes a flow down, metrics and parameters in batches."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import wraps
from pathlib import Path
from typing import Any

from raft_core.config.runtime import RuntimeConfig
from tasks.tracking.connection import open_client
from tasks.tracking.journal import METRICS_A_CALL, Journal, now
from tasks.tracking.masking import masked
from tasks.tracking.outbox import logger
from tasks.tracking.server import EXPERIMENT

UI_PORT = 5000
PARAM_LIMIT = 500  # characters


def never_fatal(method: Callable[..., Any]) -> Callable[..., Any]:
    """Turn a failure to read or to keep what is to be logged into one warning."""

    @wraps(method)
    def guarded(self: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return method(self, *args, **kwargs)
        except Exception as error:  # a full disk, or a file that is gone, must not stop training
            logger.warning("MLflow: %s failed: %s", method.__name__, masked(str(error)))
            return None

    return guarded


def experiment_id(runtime: RuntimeConfig) -> str | None:
    """The experiment that RAFT logs to, or None where nothing was logged yet."""
    database = runtime.tracking_uri.removeprefix("sqlite:///")
    if runtime.tracking_uri.startswith("sqlite:") and not Path(database).is_file():
        return None
    experiment = open_client(runtime).get_experiment_by_name(EXPERIMENT)
    return None if experiment is None else str(experiment.experiment_id)


def numbers(entry: Mapping[str, Any]) -> dict[str, float]:
    """The numeric entries of a curve's point, its step left out."""
    return {k: float(v) for k, v in entry.items() if isinstance(v, int | float) and k != "step"}


def log_metrics(journal: Journal, run: str, values: Mapping[str, float], step: int = 0) -> None:
    log_curves(journal, run, [{**values, "step": step}])


def log_curves(journal: Journal, run: str, points: Iterable[Mapping[str, Any]]) -> None:
    """A whole training's points, in as few calls as may be."""
    time = now()
    metrics = [
        (name, value, time, int(point["step"]))
        for point in points
        for name, value in numbers(point).items()
    ]
    for start in range(0, len(metrics), METRICS_A_CALL):
        journal.add("log_metrics", run, points=metrics[start : start + METRICS_A_CALL])


def log_params(journal: Journal, run: str, config: Mapping[str, Any]) -> None:
    """Nested settings as flat parameters, cut to the length that MLflow takes."""
    # Masked before it is cut: a password without its end would not be seen as one.
    params = {name: masked(str(value))[:PARAM_LIMIT] for name, value in flatten(config)}
    journal.add("log_params", run, params=params)


def flatten(value: Any, name: str = "") -> Iterable[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from flatten(item, f"{name}.{key}" if name else str(key))
    else:
        yield name, value
