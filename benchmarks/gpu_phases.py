"""Measure where an optimizer step's time goes, from outside the trainer.

The calls that a step consists of are wrapped: drawing rollouts, the teacher's turn, computing the
losses, the backward pass. The device is waited for around each. What a call spends in another
wrapped one counts for that one alone; what none of them holds (clipping, the optimizer, the rows'
order) is the rest.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from transformers import TrainerCallback

from benchmarks.gpu_card import GIB, Card

ROLLOUT, TEACHER, FORWARD, BACKWARD, REST = "rollout", "teacher", "forward", "backward", "rest"
PHASES = (ROLLOUT, TEACHER, FORWARD, BACKWARD, REST)


class Phases(TrainerCallback):
    """Seconds of every phase, and the peak in GiB, of every step; ends training after `seconds`."""

    def __init__(self, card: Card, seconds: float) -> None:
        self.steps: list[dict[str, float]] = []
        self._card, self._limit = card, seconds
        self._inside: list[float] = []
        self._found: dict[str, float] = defaultdict(float)
        self._first = self._last = 0.0

    def watch(self, trainer: Any) -> None:
        """Wrap the calls of a trainer that was just built."""
        trainer.add_callback(self)
        trainer.compute_loss = self._timed(FORWARD, trainer.compute_loss)
        trainer.accelerator.backward = self._timed(BACKWARD, trainer.accelerator.backward)
        if trainer.rollouts is not None:
            trainer.rollouts.draw = self._timed(ROLLOUT, trainer.rollouts.draw)
        if trainer.teacher is not None:
            trainer.teacher.active = self._timed_context(TEACHER, trainer.teacher.active)

    def _timed(self, phase: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*args: Any, **kwargs: Any) -> Any:
            with self._phase(phase):
                return call(*args, **kwargs)

        return timed

    def _timed_context(self, phase: str, make: Callable[..., Any]) -> Callable[..., Any]:
        @contextmanager
        def timed(*args: Any, **kwargs: Any) -> Iterator[Any]:
            with self._phase(phase), make(*args, **kwargs) as value:
                yield value

        return timed

    @contextmanager
    def _phase(self, phase: str) -> Iterator[None]:
        started = self._card.clock()
        self._inside.append(0.0)
        try:
            yield
        finally:
            whole = self._card.clock() - started
            self._found[phase] += whole - self._inside.pop()
            if self._inside:
                self._inside[-1] += whole

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._card.forget_peak()
        self._first = self._last = self._card.clock()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        now = self._card.clock()
        found, whole = {name: self._found[name] for name in PHASES}, now - self._last
        found[REST] = whole - sum(found.values())
        self.steps.append({**found, "step": whole, "gib": self._card.peak() / GIB})
        self._found.clear()
        self._card.forget_peak()
        self._last = now
        if len(self.steps) > 1 and now - self._first > self._limit:
            control.should_training_stop = True
