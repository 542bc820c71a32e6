"""Count the floating-point operations that an optimizer step needs; imports no torch.

A multiplication and its addition are two. Only tokens that are read count, no padding; attention
counts its causal half. Under an adapter the base's weights need no gradient: the backward pass is
then as large as the forward one, and three times so only for the adapter itself. What gradient
checkpointing computes again is counted apart, as no result needs it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import astuple, dataclass
from typing import Any

from benchmarks.gpu_cases import Shape


@dataclass(frozen=True, slots=True)
class Lengths:
    """Tokens of a row: the student's prompt, the answer, the teacher's prefix, the rollout."""

    prompt: int
    answer: int
    teacher: int
    rollout: int

    def as_list(self) -> list[int]:
        return list(astuple(self))


@dataclass(frozen=True, slots=True)
class StepFlops:
    """Operations of one optimizer step."""

    rollout: float
    teacher: float
    forward: float
    backward: float
    recomputed: float

    @property
    def student(self) -> float:
        """Operations of the student's forward and backward pass."""
        return self.forward + self.backward

    @property
    def whole(self) -> float:
        """Operations of the step, without what is computed again."""
        return self.rollout + self.teacher + self.student


@dataclass(frozen=True, slots=True)
class Pass:
    """Operations of a forward pass over some sequences, by what they are spent on."""

    linear: float
    attention: float
    output: float
    adapter: float

    @property
    def body(self) -> float:
        return self.linear + self.attention + self.adapter

    @property
    def forward(self) -> float:
        return self.body + self.output

    def backward(self, whole: bool) -> float:
        """Return the backward pass's operations; `whole` trains all weights, else the adapter's."""
        if whole:
            return 2 * self.forward
        return self.linear + 2 * self.attention + self.output + 2 * self.adapter


def reading(shape: Shape, sequences: Iterable[tuple[int, int]], rank: int | None) -> Pass:
    """Count the operations of sequences (tokens, tokens whose logits are computed)."""
    linear = attention = output = adapter = 0.0
    for tokens, scored in sequences:
        linear += 2.0 * shape.layers * shape.linears * tokens
        attention += 2.0 * shape.layers * shape.heads * shape.head_dim * tokens**2
        output += 2.0 * shape.vocabulary * shape.hidden * scored
        if rank is not None:
            adapter += 2.0 * shape.layers * shape.adapter(rank) * tokens
    return Pass(linear, attention, output, adapter)


def step_flops(
    shape: Shape, rows: list[Lengths], *, rank: int | None, recomputes: bool, distills: bool
) -> StepFlops:
    """Count the operations of a step over these rows; the teacher's whole prefix counts."""
    answers = [(row.prompt + row.answer, row.answer) for row in rows]
    drawn = [(row.prompt + row.rollout, row.rollout) for row in rows] if distills else []
    student = reading(shape, [*answers, *drawn], rank)
    teacher = reading(
        shape, [(r.teacher + r.rollout, r.rollout) for r in rows] if distills else [], None
    )
    return StepFlops(
        rollout=reading(shape, drawn, rank).forward,
        teacher=teacher.forward,
        forward=student.forward,
        backward=student.backward(whole=rank is None),
        recomputed=student.body if recomputes else 0.0,
    )


def mean_step(shape: Shape, found: dict[str, Any], **how: Any) -> StepFlops:
    """Count the operations of a case's average step."""
    rows = [Lengths(*lengths) for lengths in found["lengths"]]
    whole = step_flops(shape, rows, **how)
    share = found["batch"] / len(rows)
    return StepFlops(*(value * share for value in astuple(whole)))
