"""Does the base read a reference under the teacher's template? What the gate measures."""

from __future__ import annotations

from pathlib import Path
from typing import Final, Literal

from raft_core.config.base import FrozenConfig
from raft_core.data.records import Example, read_records
from raft_core.data.sources import DataSource, checked_expected, checked_text, read_rows
from raft_core.evaluation.benchmarks.base import Item
from raft_core.prompts import PromptRef, TeacherPrompt

VERSION: Final = 1
FIELDS = ("id", "reference", "question", "expected")


class ReadingBenchmark(FrozenConfig):
    """References and questions in exactly the teacher's words (`distill.teacher_prompt`).

    Rows are {reference, question, expected?}; without `data` they are the domain's own validation
    rows, each read with its own reference answer.
    """

    kind: Literal["reading"] = "reading"
    version: Literal[1] = VERSION
    data: DataSource | None = None
    prompt: TeacherPrompt = PromptRef(name="teacher.v1")
    base_only: bool = True

    @property
    def domain_files(self) -> tuple[str, ...]:
        """The files of the prepared domain that its rows come from."""
        return ("validation.jsonl",) if self.data is None else ()

    def for_validation(self) -> None:
        return None

    def items(self, prepared: Path) -> list[Item]:
        if self.data is None:
            examples = read_records(prepared / "validation.jsonl", Example)
            return [self._item(e.id, e.answer, e.question, e.expected) for e in examples]
        items = []
        for number, (where, row) in enumerate(read_rows(self.data, FIELDS), 1):
            reference = checked_text(where, row, "reference")
            question = checked_text(where, row, "question")
            expected = checked_expected(where, row)
            items.append(self._item(str(row.get("id", number)), reference, question, expected))
        return items

    def _item(self, row_id: str, reference: str, question: str, expected: tuple[str, ...]) -> Item:
        text = self.prompt.load().render(reference=reference, question=question)
        return Item(row_id, text, question, reference, expected)
