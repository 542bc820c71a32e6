"""Steps and sequences of a training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from raft_core.cost.tokens import BY_CHARACTERS, TEMPLATE_TOKENS, Sample
from raft_core.cost.training import PrefixBudget, Training, planned_training, shares, steps_of
from raft_core.data.records import Example
from raft_core.distill.config import DistillConfig, MethodConfig
from tests.integration.training import settings, stage_run

RAFT = MethodConfig(targets="fused", distillation="answer_conditioned", learning_rate=1e-3)
SFT = MethodConfig(targets="fused", learning_rate=1e-3)
REHEARSED = MethodConfig.model_validate(
    RAFT.model_dump() | {"rehearsal": {"data": "prompts.jsonl", "share": 0.25}}
)
PROMPT, ANSWER = 10 + TEMPLATE_TOKENS, 21  # 40 characters, and 80 with the token that ends them


def planned(method: MethodConfig = RAFT, *, rows: int = 8, **changes: Any) -> Training:
    """Every row has a question of 40 and an answer of 80 characters."""
    examples = [Example(str(n), "q" * 40, "a" * 80, "train") for n in range(rows)]
    rehearsal = changes.pop("prompts", ())
    length, prefixes = changes.pop("rollout_length", None), changes.pop("prefixes", None)
    config = DistillConfig.model_validate({"batch_size": 4, "epochs": 2} | changes)
    return planned_training(
        Sample(examples, 2 * rows),
        method,
        config,
        BY_CHARACTERS,
        rehearsal=rehearsal,
        rollout_length=length,
        prefixes=prefixes,
    )


@pytest.mark.parametrize("rows", [1, 3, 4, 15, 16, 17, 240])
@pytest.mark.parametrize(
    ("batch", "accumulation", "epochs"), [(4, 1, 1.5), (8, 4, 3), (16, 4, 0.5), (16, 16, 3)]
)
def test_steps_are_those_of_the_trainer(
    rows: int, batch: int, accumulation: int, epochs: float, tmp_path: Path
) -> None:
    from raft_core.distill.distill import training_arguments

    config = settings(SFT, batch_size=batch, gradient_accumulation=accumulation, epochs=epochs)
    arguments = training_arguments(config, stage_run(tmp_path, config), rows)
    assert steps_of(rows, config.distill)[0] == arguments.max_steps


def test_answers_are_read_once_a_visit() -> None:
    training = planned(SFT)
    # 16 rows in batches of 4, twice: 8 steps of 4 rows
    assert (training.steps, training.passes, training.answers.sequences) == (8, 8, 32)
    assert training.answers.tokens == 32 * (PROMPT + ANSWER)
    assert training.answers.scored == 32 * ANSWER
    assert (training.drawn.sequences, training.teacher.tokens) == (0, 0)


def test_rollouts_are_as_long_as_answers_within_their_limit() -> None:
    assert planned().rollout_tokens == 32 * ANSWER
    short = planned(rollout={"temperature": 1.0, "max_tokens": 5})
    assert (short.rollout_tokens, short.rollout_most) == (32 * 5, 32 * 5)


def test_rollouts_are_as_long_as_earlier_ones_where_these_are_known() -> None:
    assert planned(rollout_length=7.0).rollout_tokens == 32 * 7


def test_teacher_reads_its_template_and_the_rollout() -> None:
    training = planned()
    assert training.teacher.sequences == 32
    assert training.teacher.tokens > training.distilled.tokens
    unconditioned = MethodConfig(targets="raw", distillation="unconditioned", learning_rate=1e-3)
    alone = planned(unconditioned)
    assert alone.teacher.tokens == alone.drawn.tokens


def test_student_reads_a_question_once_for_answer_and_rollout() -> None:
    training = planned()
    question = training.answers.tokens / 32 - ANSWER
    assert training.distilled.tokens == training.drawn.tokens - 32 * question
    assert training.distilled.pairs == training.drawn.pairs


def test_teachers_prompts_are_read_once_where_they_are_kept() -> None:
    row = planned().teacher.tokens / 32  # 8 rows stand for 16, each visited twice
    kept = planned(prefixes=PrefixBudget(1e9, 10))
    before = row - ANSWER - 1
    assert kept.teacher.tokens == 16 * before + 32 * (ANSWER + 1)
    assert kept.prefix_bytes == 16 * before * 10
    # half of the rows have room
    half = planned(prefixes=PrefixBudget(8 * before * 10, 10))
    assert half.teacher.tokens == 8 * before + 16 * (ANSWER + 1) + 16 * row
    assert planned(prefixes=PrefixBudget(1e9, 10), epochs=1).prefix_bytes == 0


def test_rollouts_of_a_step_are_drawn_at_once() -> None:
    assert planned(gradient_accumulation=2).largest.drawn == 4
    assert planned(gradient_accumulation=2).largest.rollouts == 2


def test_rollouts_used_again_are_drawn_less_often() -> None:
    training = planned(rollout_uses=2)
    assert training.drawn.sequences == 16
    assert training.distilled.sequences == 32


def test_rehearsal_takes_its_share_of_the_rollouts() -> None:
    training = planned(REHEARSED, prompts=["p" * 40])
    assert shares(REHEARSED) == (0.75, 0.25)
    assert training.drawn.sequences == 32
    assert training.largest.rollouts == 4


def test_row_that_is_too_long_is_left_out() -> None:
    examples = [Example(str(n), "q" * (40 if n else 4000), "a", "train") for n in range(4)]
    config = DistillConfig(batch_size=1, epochs=1, max_prompt_tokens=100)
    training = planned_training(Sample(examples, 4), SFT, config, BY_CHARACTERS)
    assert (training.rows, training.too_long, training.steps) == (3, 1, 3)
