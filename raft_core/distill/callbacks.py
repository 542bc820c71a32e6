"""What is told of a training while it runs, and what stops it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from transformers import TrainerCallback

from raft_core.distill.health import Health
from raft_core.errors import UnwellError
from raft_core.execution.stage import StageRun


class CurveCallback(TrainerCallback):
    """Progress and curves."""

    def __init__(self, stage: StageRun) -> None:
        self._stage = stage

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        state.save_steps = args.save_steps  # a resume restores those of the run before
        self._stage.progress.start("train", state.max_steps)
        self._stage.progress.advance(state.global_step)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._stage.progress.advance()

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        values = {k: float(v) for k, v in (logs or {}).items() if isinstance(v, int | float)}
        if "loss" in values:
            self._stage.progress.metrics(state.global_step, values)


class HealthCallback(TrainerCallback):
    """Warns, and ends a training that is unwell, with a checkpoint of that step."""

    def __init__(self, stage: StageRun) -> None:
        self._progress, self._limits = stage.progress, stage.runtime.training.health
        self._health = Health(self._limits)

    def resume(self, lines: Sequence[Mapping[str, float]]) -> None:
        """Go on from what was logged before.

        Raises:
            UnwellError: by that the training is to be stopped, under the limits of today.
        """
        self._health = Health(self._limits)
        self._health.recall(lines)
        self.require_well()

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        for warning in self._health.check(state.global_step, logs or {}):
            self._progress.note(f"distill: {warning}")
        if self._health.reason:
            control.should_save = control.should_training_stop = True

    def require_well(self) -> None:
        """
        Raises:
            UnwellError: the training was stopped; says why and what to do.
        """
        if self._health.reason:
            raise UnwellError(self._health.reason)
