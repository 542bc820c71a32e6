"""Callbacks of the trainer: progress, curves and the health check that may end a training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from transformers import TrainerCallback

from raft_core.distill.health import Health
from raft_core.errors import UnwellError
from raft_core.execution.stage import StageRun


class CurveCallback(TrainerCallback):
    """Report each step as progress and each logged line as points of the curves."""

    def __init__(self, stage: StageRun) -> None:
        self._stage = stage

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Start the progress bar at the step that the training begins with."""
        state.save_steps = args.save_steps  # a resume would restore the earlier run's
        self._stage.progress.start("train", state.max_steps)
        self._stage.progress.advance(state.global_step)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Advance the progress by one optimizer step."""
        self._stage.progress.advance()

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        """Send the numbers of a logged line, unless it is the summary at the end."""
        values = {k: float(v) for k, v in (logs or {}).items() if isinstance(v, int | float)}
        if "loss" in values:
            self._stage.progress.metrics(state.global_step, values)


class HealthCallback(TrainerCallback):
    """Warn of an unhealthy training; past the limits, stop it with a checkpoint of that step."""

    def __init__(self, stage: StageRun) -> None:
        self._progress, self._limits = stage.progress, stage.runtime.training.health
        self._health = Health(self._limits)

    def resume(self, lines: Sequence[Mapping[str, float]]) -> None:
        """Judge the lines that were logged before a resume, under today's limits.

        Raises:
            UnwellError: by these limits the training is to be stopped.
        """
        self._health = Health(self._limits)
        self._health.recall(lines)
        self.require_well()

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        """Note new warnings; past a limit, ask the trainer to save and stop."""
        for warning in self._health.check(state.global_step, logs or {}):
            self._progress.note(f"distill: {warning}")
        if self._health.reason:
            control.should_save = control.should_training_stop = True

    def require_well(self) -> None:
        """Raise the reason for which training was stopped, if it was.

        Raises:
            UnwellError: training was stopped; says why and what to do.
        """
        if self._health.reason:
            raise UnwellError(self._health.reason)
