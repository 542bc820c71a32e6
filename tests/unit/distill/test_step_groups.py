"""What a step asks the student for, and what is drawn ahead with it."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

from raft_core.data.sources import DataSource
from raft_core.distill.batches.rehearsal import PromptCycle
from raft_core.distill.batches.step_groups import StepGroups
from raft_core.distill.batches.views import RowView
from raft_core.distill.config import MethodConfig, RehearsalConfig
from raft_core.distill.rollout.lookahead import Lookahead
from raft_core.distill.rollout.rollout import RolloutSource

PARTS = 2


class Echo:
    """Answers with the prompt's own tokens; `batches` holds the prompts of every call."""

    def __init__(self) -> None:
        self.batches: list[list[list[int]]] = []

    def sample(
        self, student: Any, prompts: Sequence[list[int]], seeds: Sequence[int]
    ) -> list[list[int]]:
        self.batches.append(list(prompts))
        return [[*prompt, seed] for prompt, seed in zip(prompts, seeds, strict=True)]


def view(number: int, kind: str = "row") -> RowView:
    ids = [number]
    return RowView(f"{kind} {number}", "", ids, [], ids, answer_cut=False, reference_cut=False)


def step_groups(sampler: Echo, max_steps: int = 100, *, rehearse: bool = False) -> StepGroups:
    rehearsal = RehearsalConfig(data=DataSource(path="general.jsonl"), share=0.5)
    method = MethodConfig(
        targets="raw",
        distillation="unconditioned",
        learning_rate=1e-3,
        rehearsal=rehearsal if rehearse else None,
    )
    args = SimpleNamespace(
        seed=0, max_steps=max_steps, gradient_accumulation_steps=PARTS, world_size=1,
        process_index=0,
    )  # fmt: skip
    prompts = PromptCycle([view(n, "prompt") for n in range(100, 120)], 0)
    return StepGroups(method, args, RolloutSource(sampler, []), prompts if rehearse else None)


def steps(count: int, rows: int = 2) -> list[list[list[RowView]]]:
    """Each step's parts, with rows of their own."""
    numbers = iter(range(count * PARTS * rows))
    return [
        [[view(next(numbers)) for _ in range(rows)] for _ in range(PARTS)] for _ in range(count)
    ]


def test_step_groups_rollouts_drawn_ahead_are_those_of_their_own_step() -> None:
    ahead, alone, plan = Echo(), Echo(), steps(3)
    groups = step_groups(ahead, rehearse=True)
    found = [groups.of(parts, None, step, plan[step + 1 :]) for step, parts in enumerate(plan)]
    groups = step_groups(alone, rehearse=True)
    assert found == [groups.of(parts, None, step) for step, parts in enumerate(plan)]
    assert [len(batch) for batch in ahead.batches] == [12]
    assert [len(batch) for batch in alone.batches] == [4, 4, 4]
    assert ahead.batches[0] == [prompt for batch in alone.batches for prompt in batch]


def test_step_groups_draw_nothing_for_steps_after_the_last() -> None:
    sampler, plan = Echo(), steps(4)
    step_groups(sampler, max_steps=9).of(plan[0], None, 7, plan[1:])
    assert [len(batch) for batch in sampler.batches] == [8]


def test_lookahead_gives_each_batch_once_and_in_order() -> None:
    for ahead in (0, 1, 3, 20):
        lookahead, epoch = Lookahead(ahead), iter(range(10))
        taken = [lookahead.take(epoch, 4), lookahead.take(epoch, 4), lookahead.take(epoch, 2)]
        assert taken == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
        assert lookahead.take(iter([10, 11]), 2) == [10, 11]


def test_lookahead_knows_so_many_steps_and_none_beyond_the_epoch() -> None:
    lookahead, epoch = Lookahead(2), iter(range(5))
    lookahead.take(epoch, 1)
    assert lookahead.coming == [[1], [2]]
    for _ in range(3):
        lookahead.take(epoch, 1)
    assert lookahead.coming == [[4]]
