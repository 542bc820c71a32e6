"""What later parts and steps ask for is known beforehand, and is what they then ask for."""

from __future__ import annotations

from typing import Any

import torch

from raft_core.data import DataSource
from raft_core.distill.config import DistillConfig, MethodConfig, RehearsalConfig
from raft_core.distill.rehearsal import PromptCycle
from raft_core.distill.rollout_plan import Lookahead, RolloutPlan
from raft_core.distill.views import RowView


def view(name: str) -> RowView:
    return RowView(name, name, [1], [], [1], answer_cut=False, reference_cut=False)


def plan(ahead: int, last_step: int = 100, accumulation: int = 1, **method: Any) -> RolloutPlan:
    switches = {"targets": "raw", "distillation": "unconditioned", "learning_rate": 1e-3}
    return RolloutPlan(
        views=[view(f"row {number}") for number in range(40)],
        method=MethodConfig.model_validate(switches | method),
        config=DistillConfig(rollout_ahead=ahead, gradient_accumulation=accumulation),
        rehearsal=PromptCycle([view(f"prompt {n}") for n in range(7)], 0) if method else None,
        last_step=last_step,
    )


def batches(parts: int, rows: int = 2) -> Any:
    return iter([{"rows": torch.arange(part * rows, (part + 1) * rows)} for part in range(parts)])


def test_lookahead_gives_each_batch_once_and_in_order() -> None:
    for steps in (0, 1, 3, 20):
        lookahead, epoch = Lookahead(steps), iter(range(10))
        taken = [lookahead.take(epoch, 4), lookahead.take(epoch, 4), lookahead.take(epoch, 2)]
        assert taken == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
        assert lookahead.take(iter([10, 11]), 2) == [10, 11]


def test_lookahead_knows_so_many_steps_and_none_beyond_the_epoch() -> None:
    lookahead, epoch = Lookahead(2), iter(range(5))
    lookahead.take(epoch, 1)
    assert lookahead.steps == [[0], [1], [2]]
    for _ in range(3):
        lookahead.take(epoch, 1)
    assert lookahead.steps == [[3], [4]]


def test_coming_holds_the_later_parts_of_a_step() -> None:
    found = plan(0, accumulation=4)
    found.lookahead.take(batches(8), 4)
    names = [[row.id for row in asked.rows] for asked in found.coming(step=5, part=0)]
    assert names == [["row 2", "row 3"], ["row 4", "row 5"], ["row 6", "row 7"]]
    assert not found.coming(step=5, part=3)


def test_coming_ends_with_the_training() -> None:
    found = plan(5, last_step=9)
    found.lookahead.take(batches(6), 1)
    assert [asked.step for asked in found.coming(step=7, part=0)] == [8]


def test_coming_is_what_is_then_asked_with_rehearsal_and_parts() -> None:
    rehearsal = RehearsalConfig(data=DataSource(path="general.jsonl"), share=0.5)
    found = plan(2, accumulation=2, rehearsal=rehearsal)
    epoch = batches(6)
    found.lookahead.take(epoch, 2)
    foreseen = found.coming(step=0, part=0)
    then = []
    for step in range(3):
        parts = found.lookahead.taken if step == 0 else found.lookahead.take(epoch, 2)
        for part, batch in enumerate(parts):
            rows = [found.views[i] for i in batch["rows"].tolist()]
            domain, general = found.asked(rows, step, part)
            then.append((step, [*domain, *general]))
    assert [(asked.step, list(asked.rows)) for asked in foreseen] == then[1:]
    assert {len(rows) for _, rows in then} == {2}
