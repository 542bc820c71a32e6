"""Specification of one side of the comparison of training steps; needs only Python itself."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class StepSpec:
    """The training that both sides do; `variant` is one side's name for its way of doing it."""

    variant: str
    model: str
    rows: str
    new_tokens: int
    threads: int
    steps: int
    folder: str
    trl_teacher_prompt: str
    batch_size: int = 16
    top_k: int = 512
    log_every: int = 5
    ahead: int = 0
    # The weights stay where they are: both sides then draw answers of the same lengths throughout.
    learning_rate: float = 1e-9

    def to_argument(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_argument(cls, text: str) -> StepSpec:
        return cls(**json.loads(text))

    def read_rows(self) -> list[dict[str, str]]:
        """Return objects with id, question and answer."""
        return [json.loads(line) for line in Path(self.rows).read_text().splitlines()]
