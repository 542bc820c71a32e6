"""Assemble what the passes of one optimizer step read: answers, rollouts, general prompts."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import Any

from transformers import TrainingArguments

from raft_core.distill.batches.batches import KL, REHEARSAL, SFT, Group
from raft_core.distill.batches.rehearsal import PromptCycle
from raft_core.distill.batches.views import RowView
from raft_core.distill.config import MethodConfig
from raft_core.distill.rollout.rollout import Asked, RolloutSource


class StepGroups:
    """Group the rows of each part of a step by loss.

    All rollouts of a step are drawn in one batch: its parts share the student, and a batch of 16
    takes hardly longer to write than one of 4.
    """

    def __init__(
        self,
        method: MethodConfig,
        args: TrainingArguments,
        rollouts: RolloutSource | None,
        rehearsal: PromptCycle | None,
    ) -> None:
        self._method, self._args = method, args
        self._rollouts, self._rehearsal = rollouts, rehearsal

    def of(
        self,
        parts: Sequence[list[RowView]],
        student: Any,
        step: int,
        later: Sequence[Sequence[list[RowView]]] = (),
    ) -> list[list[Group]]:
        """Return the groups of each part: the answers first, then what is distilled.

        `later` holds the parts of steps to come, whose rollouts are drawn ahead with this one's.
        """
        found = [[Group(SFT, rows, [row.answer_ids for row in rows], [])] for rows in parts]
        if self._rollouts is None:
            return found
        asked = [
            each for number, rows in enumerate(parts) for each in self._asked(rows, step, number)
        ]
        every = [row for _, rows in asked for row in rows]
        ahead = later[: self._args.max_steps - step - 1]
        drawn = iter(
            self._rollouts.draw(
                student,
                every,
                self._args.seed,
                step,
                coming=lambda: [self._coming(parts, n) for n, parts in enumerate(ahead, step + 1)],
            )
        )
        for place, (loss, rows) in enumerate(asked):
            completions = list(islice(drawn, len(rows)))
            if rows:
                group = Group(loss, rows, completions, [self.teacher_prompt(row) for row in rows])
                found[place // 2].append(group)
        return found

    def _coming(self, parts: Sequence[list[RowView]], step: int) -> Asked:
        asked = [
            each for number, rows in enumerate(parts) for each in self._asked(rows, step, number)
        ]
        return Asked(step, [row for _, rows in asked for row in rows])

    def teacher_prompt(self, row: RowView) -> list[int]:
        """Return what the teacher reads before a rollout: its own prompt or the student's.

        A general prompt is the same for both.
        """
        conditioned = self._method.distillation == "answer_conditioned"
        return row.teacher_ids if conditioned else row.prompt_ids

    def _asked(
        self, rows: list[RowView], step: int, number: int
    ) -> list[tuple[str, list[RowView]]]:
        """Return the prompts of one part that the student answers, by loss."""
        general = self._general_prompts(len(rows), step, number)
        own = rows[: len(rows) - len(general)] if self._method.distillation != "none" else []
        return [(KL, own), (REHEARSAL, general)]

    def _general_prompts(self, rows: int, step: int, number: int) -> list[RowView]:
        """Return the rehearsal prompts of the step's part `number`.

        Their place in the cycle follows from step, part and process alone.
        """
        if self._rehearsal is None or self._method.rehearsal is None:
            return []
        count = max(1, round(self._method.rehearsal.share * rows))
        part = step * self._args.gradient_accumulation_steps + number
        place = (part * self._args.world_size + self._args.process_index) * count
        return self._rehearsal.take(place, count)
