"""Whose rollouts each part of each step asks for, so that many can be drawn together."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from raft_core.distill.config import DistillConfig, MethodConfig
from raft_core.distill.rehearsal import PromptCycle
from raft_core.distill.rollout import Asked
from raft_core.distill.views import RowView


class Lookahead:
    """Takes an epoch's batches step by step, and up to `steps` steps before they are due.

    Looking ahead ends with the epoch: the next one's order is not known before it begins.
    """

    def __init__(self, steps: int) -> None:
        self._steps = steps
        self._waiting: deque[list[Any]] = deque()
        self.taken: list[Any] = []

    def take(self, batches: Iterator[Any], parts: int) -> list[Any]:
        """The batches of the next step, which has `parts` of them; fewer where the epoch ends."""
        while len(self._waiting) <= self._steps:
            step = list(islice(batches, parts))
            if not step:
                break
            self._waiting.append(step)
        self.taken = self._waiting.popleft() if self._waiting else []
        return self.taken

    @property
    def steps(self) -> list[list[Any]]:
        """The batches of the step that was taken last, and of those known after it."""
        return [self.taken, *self._waiting]


@dataclass(frozen=True, slots=True)
class RolloutPlan:
    """A part is one forward pass of one of `processes` processes; `last_step` has none after it."""

    views: Sequence[RowView]
    method: MethodConfig
    config: DistillConfig
    rehearsal: PromptCycle | None
    last_step: int
    process: int = 0
    processes: int = 1
    lookahead: Lookahead = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "lookahead", Lookahead(self.config.rollout_ahead))

    def asked(
        self, rows: Sequence[RowView], step: int, part: int
    ) -> tuple[list[RowView], list[RowView]]:
        """Of a part with these rows: the rows to answer, and the general prompts to rehearse."""
        general = self._general_prompts(len(rows), step, part)
        if self.method.distillation == "none":
            return [], general
        return list(rows[: len(rows) - len(general)]), general

    def coming(self, step: int, part: int) -> list[Asked]:
        """What the parts after this one ask for, as far as looking ahead reaches."""
        found = []
        for number, batches in enumerate(self.lookahead.steps[: self.last_step - step], step):
            first = part + 1 if number == step else 0
            for later, batch in enumerate(batches[first:], first):
                rows = [self.views[i] for i in batch["rows"].tolist()]
                domain, general = self.asked(rows, number, later)
                found.append(Asked(number, [*domain, *general]))
        return found

    def _general_prompts(self, rows: int, step: int, part: int) -> list[RowView]:
        """Their place follows from the step alone."""
        if self.rehearsal is None or self.method.rehearsal is None:
            return []
        count = max(1, round(self.method.rehearsal.share * rows))
        number = step * self.config.gradient_accumulation + part
        place = (number * self.processes + self.process) * count
        return self.rehearsal.take(place, count)
