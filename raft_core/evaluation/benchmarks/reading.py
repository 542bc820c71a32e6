"""Does the base read a reference under the teacher's template? What the gate measures."""

from __future__ import annotations

from pathlib import Path
from typing import Final, Literal

from raft_core.config import FrozenConfig
from raft_core.data import DataSource, checked_text, read_rows
from raft_core.evaluation.benchmarks.base import Item
from raft_core.prompts import PromptRef

VERSION: Final = 1


class ReadingBenchmark(FrozenConfig):
    """Rows of {reference, question, expected}, asked in exactly the teacher's words."""

    kind: Literal["reading"] = "reading"
    version: Literal[1] = VERSION
    data: DataSource
    prompt: PromptRef = PromptRef(name="teacher.v1")
    base_only: bool = True

    def for_validation(self) -> None:
        return None

    def items(self, prepared: Path) -> list[Item]:
        prompt, items = self.prompt.load(), []
        for number, (where, row) in enumerate(read_rows(self.data), 1):
            reference = checked_text(where, row, "reference")
            question = checked_text(where, row, "question")
            text = prompt.render(reference=reference, question=question)
            expected = tuple(row.get("expected") or ())
            items.append(Item(str(row.get("id", number)), text, question, reference, expected))
        return items
