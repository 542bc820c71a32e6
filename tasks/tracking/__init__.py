"""MLflow: a run per flow run, a child run per stage or cell. The only package that imports mlflow.

Tracking never takes a run down or makes it wait: calls are kept in a journal below the runtime's
home and sent from a thread of their own; what a server that is away misses, it gets later.
"""

from tasks.tracking.client import UI_PORT, experiment_id, flatten, numbers
from tasks.tracking.flow_run import JoinedTracker, Tracker
from tasks.tracking.masking import masked
from tasks.tracking.outbox import end_interrupted
from tasks.tracking.registry import Registry, Version
from tasks.tracking.stage_run import StageTracker

__all__ = [
    "UI_PORT",
    "JoinedTracker",
    "Registry",
    "StageTracker",
    "Tracker",
    "Version",
    "end_interrupted",
    "experiment_id",
    "flatten",
    "masked",
    "numbers",
]
