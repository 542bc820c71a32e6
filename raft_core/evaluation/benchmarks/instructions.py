"""Verifiable instruction following in IFEval's row format, checked by code.

A prompt counts as followed when all its instructions hold on the whole response (strict).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final, Literal

from raft_core.config import FrozenConfig
from raft_core.data import DataSource, checked_text, read_rows
from raft_core.engines.base import answer_text
from raft_core.errors import InputError
from raft_core.evaluation.benchmarks.base import Item, Response
from raft_core.evaluation.instructions import (
    CHECKS,
    argument_problem,
    check_instruction,
)
from raft_core.records import Verdict, Vote

VERSION: Final = 1


class InstructionsBenchmark(FrozenConfig):
    """Rows of {id or key, prompt, instruction_id_list, kwargs}; `validation` has others."""

    kind: Literal["instructions"] = "instructions"
    version: Literal[1] = VERSION
    data: DataSource
    validation: DataSource | None = None
    base_only: bool = False

    def for_validation(self) -> InstructionsBenchmark | None:
        return self.model_copy(update={"data": self.validation}) if self.validation else None

    def items(self, prepared: Path) -> list[Item]:
        items = []
        for number, (where, row) in enumerate(read_rows(self.data), 1):
            prompt = checked_text(where, row, "prompt")
            ids, kwargs = row.get("instruction_id_list"), row.get("kwargs")
            if not isinstance(ids, list) or not isinstance(kwargs, list) or len(ids) != len(kwargs):
                raise InputError(
                    f"{where}: 'instruction_id_list' and 'kwargs' must be lists of one length"
                )
            kwargs = [{} if kw is None else kw for kw in kwargs]
            if not all(isinstance(i, str) for i in ids) or not all(
                isinstance(kw, dict) for kw in kwargs
            ):
                raise InputError(
                    f"{where}: 'instruction_id_list' must hold strings and 'kwargs' objects"
                )
            if unknown := sorted(set(ids) - set(CHECKS)):
                raise InputError(
                    f"{where}: field 'instruction_id_list': no checker for {', '.join(unknown)}; "
                    f"known are {', '.join(sorted(CHECKS))}"
                )
            checks = tuple(
                {"instruction_id": i, "kwargs": {k: v for k, v in kw.items() if v is not None}}
                for i, kw in zip(ids, kwargs, strict=True)
            )
            for check in checks:
                if problem := argument_problem(check["instruction_id"], check["kwargs"]):
                    raise InputError(f"{where}: field 'kwargs': {problem}")
            row_id = str(row.get("id", row.get("key", number)))
            items.append(Item(row_id, prompt, prompt, checks=checks))
        return items


def instruction_votes(items: Sequence[Item], responses: Sequence[Response]) -> list[list[Vote]]:
    """One vote per response: all of its instructions followed, or which were not."""
    votes = []
    for item, response in zip(items, responses, strict=True):
        text = answer_text(response.response)
        broken = [
            check["instruction_id"]
            for check in item.checks
            if not check_instruction(check["instruction_id"], text, **check["kwargs"])
        ]
        verdict: Verdict = "incorrect" if broken else "correct"
        votes.append([Vote("strict", verdict, ", ".join(broken))])
    return votes
