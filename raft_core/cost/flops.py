"""Floating-point operations of reading, writing and training, from shapes and token counts.

A product of matrices costs 2 operations a weight and token. Of attention, scores and mix cost
2 * 2 * heads * head_dim for every pair of tokens in every layer. Embedding rows are looked up,
which costs none; the output layer costs 2 * V * D at scored positions alone. Norms, rotations and
softmax are left out: below a hundredth of the rest at these widths.
"""

from __future__ import annotations

from dataclasses import dataclass

from raft_core.cost.shapes import ModelShape
from raft_core.cost.tokens import Reading


@dataclass(frozen=True, slots=True)
class TrainingFlops:
    """Of one training; `recompute` is what gradient checkpointing does a second time."""

    student: float
    recompute: float
    teacher: float
    rollouts: float

    @property
    def total(self) -> float:
        return self.student + self.recompute + self.teacher + self.rollouts


def body(shape: ModelShape, reading: Reading) -> float:
    """Of the layers' matrices, forward."""
    return 2 * shape.body_weights * reading.tokens


def attention(shape: ModelShape, reading: Reading) -> float:
    """Of all tokens with those before them, forward."""
    return 4 * shape.layers * shape.query_width * reading.pairs


def output(shape: ModelShape, reading: Reading) -> float:
    """Of the output layer at scored positions, forward."""
    return 2 * shape.output_weights * reading.scored


def forward(shape: ModelShape, reading: Reading) -> float:
    """2 N a token and attention: a teacher that reads, or a model that writes from its cache."""
    return body(shape, reading) + attention(shape, reading) + output(shape, reading)


def trained(shape: ModelShape, reading: Reading, adapter_parameters: int = 0) -> float:
    """Forward and backward: 6 N a token and attention three times.

    Under an adapter the frozen matrices have no gradient of their own: 4 N a token, and 6 for each
    of the adapter's numbers.
    """
    if not adapter_parameters:
        return 3 * forward(shape, reading)
    frozen = 2 * (body(shape, reading) + output(shape, reading))
    return frozen + 3 * attention(shape, reading) + 6 * adapter_parameters * reading.tokens


def recomputed(shape: ModelShape, reading: Reading) -> float:
    """What gradient checkpointing adds: the layers' forward pass once more."""
    return body(shape, reading) + attention(shape, reading)
