"""Questions with references, judged by the panel: the domain's own, or general ones."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final, Literal

from raft_core.config.base import FrozenConfig
from raft_core.data.records import Example, Split, Vote, read_records
from raft_core.data.sources import (
    DataSource,
    checked_expected,
    checked_id,
    question_and_answer,
    read_rows,
)
from raft_core.engines.base import answer_text
from raft_core.errors import InputError
from raft_core.evaluation.benchmarks.base import Item, Response
from raft_core.evaluation.judges import JudgedAnswer, Panel, judge_answers
from raft_core.execution.stage import StageRun

VERSION: Final = 1


class DomainBenchmark(FrozenConfig):
    """The held-out questions of the domain that is trained on."""

    kind: Literal["domain"] = "domain"
    version: Literal[1] = VERSION
    split: Split = "test"
    base_only: bool = False

    @property
    def domain_files(self) -> tuple[str, ...]:
        """The files of the prepared domain that its rows come from."""
        return (f"{self.split}.jsonl",)

    def for_validation(self) -> DomainBenchmark:
        return self.model_copy(update={"split": "validation"})

    def items(self, prepared: Path) -> list[Item]:
        examples = read_records(prepared / f"{self.split}.jsonl", Example)
        return [Item(e.id, e.question, e.question, e.answer, e.expected) for e in examples]


class QuestionsBenchmark(FrozenConfig):
    """Questions with reference answers from a file; `validation` has others."""

    kind: Literal["questions"] = "questions"
    version: Literal[1] = VERSION
    data: DataSource
    validation: DataSource | None = None
    base_only: bool = False

    @property
    def domain_files(self) -> tuple[str, ...]:
        """The files of the prepared domain that its rows come from."""
        return ()

    def for_validation(self) -> QuestionsBenchmark | None:
        return self.model_copy(update={"data": self.validation}) if self.validation else None

    def items(self, prepared: Path) -> list[Item]:
        items: list[Item] = []
        columns = self.data.columns
        named = (*columns.pair, columns.id, "expected")
        seen: dict[str, str] = {}
        for number, (where, row) in enumerate(read_rows(self.data, named), 1):
            question, answer = question_and_answer(where, row, columns)
            row_id = checked_id(where, row.get(columns.id)) or str(number)
            expected = checked_expected(where, row)
            if row_id in seen:
                raise InputError(
                    f"{where}: field 'id' repeats '{row_id}' of {seen[row_id]}; make ids unique, "
                    "or leave all of them out"
                )
            seen[row_id] = where
            items.append(Item(row_id, question, question, answer, expected))
        return items


def panel_votes(
    items: Sequence[Item], responses: Sequence[Response], panel: Panel, stage: StageRun
) -> list[list[Vote]]:
    """The panel's votes on each response, thinking blocks left out."""
    answers = [
        JudgedAnswer(i.id, i.question, i.reference, answer_text(r.response), i.expected)
        for i, r in zip(items, responses, strict=True)
    ]
    return judge_answers(answers, panel, stage)
