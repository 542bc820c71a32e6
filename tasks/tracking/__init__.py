"""MLflow: a run per flow run, a child run per stage or cell. The only package that imports mlflow.

Tracking never takes a run down: a call that fails is reported once and then left out.
"""

from tasks.tracking.client import UI_PORT, experiment_id, flatten, numbers
from tasks.tracking.flow_run import Tracker
from tasks.tracking.stage_run import StageTracker

__all__ = ["UI_PORT", "StageTracker", "Tracker", "experiment_id", "flatten", "numbers"]
