"""Whether a training is well: what is told, and what ends it before it wastes more hours."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite

from raft_core.errors import StageError
from raft_core.matching import mentions
from raft_core.runtime import HealthLimits

GRAM = 4
# Signal -> what a high value means, and what to try.
MEANINGS = {
    "truncated": ("rollouts reach the length limit", "raise distill.rollout.max_tokens"),
    "repeated": ("rollouts repeat themselves", "lower the learning rate"),
    "leaking": ("rollouts talk about the task", "look at the targets for such phrases"),
    "outside_k": ("the student leaves the teacher's top K", "lower the learning rate"),
    "collapsed": ("the student's entropy is gone", "lower the learning rate"),
    "clamped": ("lambda stands at its limit", "raise distill.balance.lambda_max"),
}


def repeated_share(ids: Sequence[int]) -> float:
    """Share of a rollout's runs of four tokens that it has said before."""
    grams = Counter(tuple(ids[start : start + GRAM]) for start in range(len(ids) - GRAM + 1))
    total = sum(grams.values())
    return 1 - len(grams) / total if total else 0.0


def leaking_share(texts: Sequence[str], phrases: Sequence[str]) -> float:
    """Share of rollouts with a phrase that speaks of references and rewriting."""
    leaking = sum(any(mentions(text, phrase) for phrase in phrases) for text in texts)
    return leaking / len(texts) if texts else 0.0


def require_finite(losses: Sequence[float], step: int) -> None:
    """Before the backward pass, so that the weights stay what they were.

    Raises:
        StageError: a loss is not a number.
    """
    if not all(map(isfinite, losses)):
        shown = ", ".join(f"{loss:g}" for loss in losses)
        raise StageError(
            f"the loss at step {step} is not finite ({shown}); the last checkpoint is kept. Lower "
            "the method's learning_rate or distill.max_grad_norm, or look at the rows of this step"
        )


@dataclass
class Health:
    """Compares what is logged with the limits; `reason` says why training must stop."""

    limits: HealthLimits
    lambda_max: float
    reason: str = ""
    _first_entropy: float = 0.0
    _beyond: Counter[str] = field(default_factory=Counter)
    _warned: set[str] = field(default_factory=set)

    def check(self, step: int, logs: Mapping[str, float]) -> list[str]:
        """Warnings that are new at this logged step."""
        warnings = []
        for name, value in self._signals(logs).items():
            limit = getattr(self.limits, name)
            meaning, remedy = MEANINGS[name]
            if limit.warn is None or value < limit.warn:
                self._warned.discard(name)
            elif name not in self._warned:
                self._warned.add(name)
                warnings.append(f"step {step}: {meaning} ({name} {value:.2f}); {remedy}")
            beyond = limit.stop is not None and value >= limit.stop
            self._beyond[name] = self._beyond[name] + 1 if beyond else 0
            if self._beyond[name] >= self.limits.patience and not self.reason:
                self.reason = (
                    f"training was stopped at step {step}: {meaning} ({name} was at least "
                    f"{limit.stop:g} at {self.limits.patience} logged steps in a row). The "
                    f"checkpoint of this step is kept: {remedy}, or raise "
                    f"runtime.training.health.{name}.stop to go on from it"
                )
        return warnings

    def _signals(self, logs: Mapping[str, float]) -> dict[str, float]:
        """Of what this line holds; the more, the worse."""
        entropy = logs.get("student_entropy")
        self._first_entropy = self._first_entropy or entropy or 0.0
        left = (
            entropy / self._first_entropy if entropy is not None and self._first_entropy else None
        )
        found = {
            "truncated": logs.get("truncated_share"),
            "repeated": logs.get("repeated_share"),
            "leaking": logs.get("leaking_share"),
            "outside_k": 1 - logs["student_mass_in_k"] if "student_mass_in_k" in logs else None,
            "collapsed": None if left is None else 1 - left,
            "clamped": float(logs["lambda"] >= self.lambda_max) if "lambda" in logs else None,
        }
        return {name: value for name, value in found.items() if value is not None}
