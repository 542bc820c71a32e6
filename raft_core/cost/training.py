"""What one training reads and writes: steps, sequences of both sides, the largest pass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import ceil

from raft_core.cost.flops import TrainingFlops, forward, recomputed, trained
from raft_core.cost.memory import PassSize
from raft_core.cost.requests import UNKNOWN_SHARE
from raft_core.cost.shapes import ModelShape
from raft_core.cost.tokens import Reading, Sample, TokenCounter
from raft_core.distill.config import DistillConfig, MethodConfig


@dataclass(frozen=True, slots=True)
class RowLengths:
    """Tokens of one training row: its prompt, its answer, and what the teacher reads before z.

    `rollout` is as long as the answer, within the rollouts' limit.
    """

    prompt: int
    answer: int
    teacher: int
    rollout: int


@dataclass(frozen=True, slots=True)
class PrefixBudget:
    """Host memory for the teacher's keys and values, and what one token of them takes."""

    bytes: float
    bytes_a_token: int


@dataclass(frozen=True)
class Training:
    """One method's training. Readings are of all its steps; `drawn` are the rollouts as
    they are written, `prefix_bytes` what is kept of the teacher's prompts."""

    steps: int
    passes: int
    rows: float
    too_long: float
    cut: float
    answers: Reading
    distilled: Reading
    teacher: Reading
    drawn: Reading
    rollout_tokens: float
    rollout_most: float
    rollout_lengths: Sequence[int]
    largest: PassSize
    prefix_bytes: float = 0.0

    def flops(self, shape: ModelShape, config: DistillConfig) -> TrainingFlops:
        adapter = config.adapter
        extra = 0 if adapter is None else shape.adapter_parameters(adapter.rank, adapter.modules)
        read = self.answers + self.distilled
        again = recomputed(shape, read) if config.gradient_checkpointing else 0.0
        return TrainingFlops(
            student=trained(shape, read, extra),
            recompute=again,
            teacher=forward(shape, self.teacher),
            rollouts=forward(shape, self.drawn),
        )


def row_lengths(
    question: str, answer: str, config: DistillConfig, counter: TokenCounter
) -> RowLengths:
    """Of a row whose target is as long as its reference."""
    text = config.teacher_prompt.load().render(reference=answer, question=question)
    own = counter.answer(answer)
    return RowLengths(
        prompt=counter.prompt(question),
        answer=min(own, config.max_answer_tokens),
        teacher=min(counter.prompt(text), config.max_prompt_tokens + config.max_answer_tokens),
        rollout=min(own, config.rollout.max_tokens),
    )


def with_rollouts(lengths: Sequence[RowLengths], mean: float | None) -> list[RowLengths]:
    """The same rows with rollouts of this mean length, if it is known."""
    before = sum(row.rollout for row in lengths)
    if mean is None or not before:
        return list(lengths)
    change = mean * len(lengths) / before
    return [replace(row, rollout=max(1, round(row.rollout * change))) for row in lengths]


def prompt_lengths(prompt: str, config: DistillConfig, counter: TokenCounter) -> RowLengths:
    """Of a general prompt for rehearsal, whose answer nobody knows."""
    tokens = counter.prompt(prompt)
    said = max(1, round(config.rollout.max_tokens * UNKNOWN_SHARE))
    return RowLengths(tokens, 0, tokens, said)


def planned_training(
    rows: Sample,
    method: MethodConfig,
    config: DistillConfig,
    counter: TokenCounter,
    *,
    processes: int = 1,
    rehearsal: Sequence[str] = (),
    rollout_length: float | None = None,
    prefixes: PrefixBudget | None = None,
) -> Training:
    """The training of a method on rows of which some were counted.

    `rollout_length` is the mean of earlier rollouts; without it they are as long as the answers.
    `prefixes` bounds what is kept of the teacher's prompts.
    """
    lengths = [row_lengths(r.question, r.answer, config, counter) for r in rows]
    lengths = with_rollouts(lengths, rollout_length)
    fitting = [each for each in lengths if each.prompt <= config.max_prompt_tokens] or lengths
    kept = round(len(fitting) * rows.factor)
    steps, visits = steps_of(kept, config, processes)
    prompts = [prompt_lengths(p, config, counter) for p in rehearsal]
    own, general = shares(method)
    times, general_visits = visits / len(fitting), visits * general
    drawn = rollouts(fitting, prompts, times * own, general_visits)
    conditioned = method.distillation == "answer_conditioned"
    read = fitting if conditioned else [replace(row, teacher=row.prompt) for row in fitting]
    student, questions = _read(drawn, teacher=False), sum(row.prompt for row in fitting)
    taught, kept_bytes = _taught(read, rows.factor, times * own, config, method, prefixes)
    taught += _read(rollouts([], prompts, 0, general_visits), teacher=True)
    anew = 1 / config.rollout_uses
    per_process = max(1, config.batch_size // config.gradient_accumulation // processes)
    return Training(
        steps=steps,
        passes=steps * config.gradient_accumulation,
        rows=kept,
        too_long=(len(lengths) - len(fitting)) * rows.factor,
        cut=sum(counter.answer(r.answer) > config.max_answer_tokens for r in rows) * rows.factor,
        answers=Reading.of((r.prompt + r.answer, r.answer) for r in fitting).times(times),
        # Packed, a question is read once for its answer and its rollout, but for its attention.
        distilled=replace(student, tokens=student.tokens - times * own * questions),
        teacher=taught,
        drawn=student.times(anew),
        rollout_tokens=student.scored * anew,
        rollout_most=student.sequences * anew * config.rollout.max_tokens,
        rollout_lengths=[each.rollout for each, weight in drawn if weight],
        largest=largest_pass(fitting, prompts, per_process, own + general, config),
        prefix_bytes=kept_bytes,
    )


def steps_of(rows: int, config: DistillConfig, processes: int = 1) -> tuple[int, int]:
    """Optimizer steps, and how many rows they visit; as the trainer's own arguments count them."""
    of_all = max(1, config.batch_size // config.gradient_accumulation)
    whole = rows >= config.batch_size  # then what is left of a pass over the rows is dropped
    batches = rows // of_all if whole else ceil(rows / of_all)
    steps = max(1, round(config.epochs * ceil(batches / config.gradient_accumulation)))
    return steps, steps * min(config.batch_size, max(rows, 1))


def shares(method: MethodConfig) -> tuple[float, float]:
    """Of a step's rows: those distilled on themselves, and general prompts in their place."""
    if not method.samples:
        return 0.0, 0.0
    general = 0.0 if method.rehearsal is None else method.rehearsal.share
    return (1 - general if method.distillation != "none" else 0.0), general


Weighted = list[tuple[RowLengths, float]]


def rollouts(
    rows: Sequence[RowLengths], prompts: Sequence[RowLengths], times: float, general: float
) -> Weighted:
    """Sequences with how many each stands for: every row `times`, `general` prompts in all."""
    each = general / len(prompts) if prompts else 0.0
    return [(row, times) for row in rows] + [(prompt, each) for prompt in prompts]


def _taught(
    rows: Sequence[RowLengths],
    factor: float,
    times: float,
    config: DistillConfig,
    method: MethodConfig,
    prefixes: PrefixBudget | None,
) -> tuple[Reading, float]:
    """What the teacher reads of the domain's rows, and the bytes that it keeps of their prompts.

    Prompts that are kept, the shortest first, are read once for all epochs; of such a row every
    visit reads the last token of the prompt and the rollout.
    """
    total, room, used = Reading(), 0.0, 0.0
    if prefixes and config.epochs > 1 and method.distillation != "none":
        room = prefixes.bytes
    for row in sorted(rows, key=lambda row: row.teacher):
        whole = Reading.of([(row.teacher + row.rollout, row.rollout)])
        size = factor * (row.teacher - 1) * prefixes.bytes_a_token if prefixes else 0.0
        if not room or used + size > room:
            total += whole.times(times)
            continue
        used += size
        before = Reading.of([(row.teacher - 1, 0)])
        rest = Reading(1, whole.tokens - before.tokens, whole.pairs - before.pairs, whole.scored)
        total += rest.times(times) + before.times(factor)
    return total, used


def _read(weighted: Weighted, *, teacher: bool) -> Reading:
    total = Reading()
    for row, times in weighted:
        before = row.teacher if teacher else row.prompt
        total += Reading.of([(before + row.rollout, row.rollout)]).times(times)
    return total


def largest_pass(
    rows: Sequence[RowLengths],
    prompts: Sequence[RowLengths],
    per_process: int,
    share: float,
    config: DistillConfig,
) -> PassSize:
    """A pass of one process in which the longest rows meet, with rollouts at their limit."""
    every = [*rows, *prompts]
    distilled = round(per_process * share)
    return PassSize(
        rows=per_process,
        rollouts=distilled,
        prompt=max(row.prompt for row in every),
        completion=max(row.answer for row in rows),
        rollout=config.rollout.max_tokens if distilled else 0,
        teacher_prompt=max(row.teacher for row in every),
        drawn=distilled * config.gradient_accumulation,
    )
