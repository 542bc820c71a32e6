"""Judge a training by what it logs: warn, and stop it before it wastes more hours."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite

from raft_core.config.runtime import HealthLimits
from raft_core.data.matching import mentions
from raft_core.errors import UnwellError

GRAM = 4
# Signal -> what a high value means, and what to try.
MEANINGS = {
    "truncated": ("rollouts reach the length limit", "raise distill.rollout.max_tokens"),
    "repeated": ("rollouts repeat themselves", "lower the learning rate"),
    "leaking": ("rollouts talk about the task", "look at the targets for such phrases"),
    "outside_k": ("the student leaves the teacher's top K", "lower the learning rate"),
    "collapsed": ("the student's entropy is gone", "lower the learning rate"),
    "clamped": ("lambda stands at its limit", "raise lambda_max of the loss's balance"),
}
LOSSES = ("", "_rehearsal")  # suffixes of the logged names, by distillation loss
CLAMPED = "clamped_share"


def repeated_share(ids: Sequence[int]) -> float:
    """Return the share of a rollout's runs of four tokens that it has said before."""
    grams = Counter(tuple(ids[start : start + GRAM]) for start in range(len(ids) - GRAM + 1))
    total = sum(grams.values())
    return 1 - len(grams) / total if total else 0.0


def leaking_share(texts: Sequence[str], phrases: Sequence[str]) -> float:
    """Return the share of rollouts with a phrase that speaks of references and rewriting."""
    leaking = sum(any(mentions(text, phrase) for phrase in phrases) for text in texts)
    return leaking / len(texts) if texts else 0.0


def require_finite(values: Sequence[float], step: int, what: str = "loss") -> None:
    """Refuse losses, gradients or weights that are not finite.

    Losses and gradients are checked before they reach the weights, weights before they are kept.

    Raises:
        UnwellError: one of them is not a number.
    """
    if not all(map(isfinite, values)):
        shown = ", ".join(f"{value:g}" for value in values)
        raise UnwellError(
            f"the {what} at step {step} is not finite ({shown}) and was not used: what was saved "
            "before is kept. Start anew with a lower learning_rate of the method or a lower "
            "distill.max_grad_norm, or look at the rows of this step"
        )


@dataclass
class Health:
    """Compare what is logged with the limits; `reason` says why training must stop."""

    limits: HealthLimits
    reason: str = field(default="", init=False)
    _first_entropy: dict[str, float] = field(default_factory=dict, init=False)
    _beyond: Counter[str] = field(default_factory=Counter, init=False)
    _warned: set[str] = field(default_factory=set, init=False)

    def recall(self, lines: Sequence[Mapping[str, float]]) -> None:
        """Judge the lines logged before a resume; `reason` is set if the last line gives one.

        The lines are judged anew, so that today's limits decide and not those of then.
        """
        for line in lines:
            if "loss" in line:
                self.reason = ""
                self.check(int(line["step"]), line)

    def check(self, step: int, logs: Mapping[str, float]) -> list[str]:
        """Judge one logged line, and return the warnings that are new with it."""
        found = [
            self._compare(step, name, end, value)
            for end in LOSSES
            for name, value in self._signals(logs, end).items()
        ]
        return [warning for warning in found if warning]

    def _compare(self, step: int, name: str, end: str, value: float) -> str:
        """Compare one signal with its limit, and return the warning if it is new.

        `end` is the suffix of the loss that the signal belongs to.
        """
        limit, signal = getattr(self.limits, name), f"{name}{end}"
        meaning, remedy = MEANINGS[name]
        beyond = limit.stop is not None and value >= limit.stop
        self._beyond[signal] = self._beyond[signal] + 1 if beyond else 0
        if self._beyond[signal] >= self.limits.patience and not self.reason:
            self.reason = (
                f"training was stopped at step {step}: {meaning} ({signal} was at least "
                f"{limit.stop:g} at {self.limits.patience} logged steps in a row). The "
                f"checkpoint of this step is kept: to go on from it, set "
                f"runtime.training.health.{name}.stop higher, or to null; to start anew, {remedy}"
            )
        if limit.warn is None or value < limit.warn:
            self._warned.discard(signal)
        elif signal not in self._warned:
            self._warned.add(signal)
            return f"step {step}: {meaning} ({signal} {value:.2f}); {remedy}"
        return ""

    def _signals(self, logs: Mapping[str, float], end: str) -> dict[str, float]:
        """Return the signals of one loss in a logged line, by name; higher is worse."""
        entropy, mass = logs.get(f"student_entropy{end}"), logs.get(f"student_mass_in_k{end}")
        first = self._first_entropy.get(end) or entropy
        if first:
            self._first_entropy[end] = first
        found = {
            "truncated": logs.get(f"truncated_share{end}"),
            "repeated": logs.get(f"repeated_share{end}"),
            "leaking": logs.get(f"leaking_share{end}"),
            "outside_k": None if mass is None else 1 - mass,
            "collapsed": 1 - entropy / first if entropy is not None and first else None,
            "clamped": logs.get(f"{CLAMPED}{end}"),
        }
        return {name: value for name, value in found.items() if value is not None}
