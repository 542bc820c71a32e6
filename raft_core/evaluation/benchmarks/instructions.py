"""Verifiable instruction following in IFEval's row format, checked by code.

A prompt counts as followed when all its instructions hold on the whole response (strict); IFEval's
other three figures, loose and by instruction, stand beside it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Literal

from raft_core.config.base import FrozenConfig
from raft_core.data.records import Verdict, Vote
from raft_core.data.sources import DataSource, checked_id, checked_text, read_rows
from raft_core.engines.base import answer_text
from raft_core.errors import InputError
from raft_core.evaluation.benchmarks.base import Item, Response
from raft_core.evaluation.instructions import (
    ARGUMENTS,
    argument_problem,
    check_instruction,
    split_sentences_by,
)
from raft_core.evaluation.metrics import wilson
from raft_core.execution.deadline import deadline

VERSION: Final = 1
CHECK_SECONDS = 10.0  # of one instruction, which takes milliseconds
FIELDS = ("id", "key", "prompt", "instruction_id_list", "kwargs")


class InstructionsBenchmark(FrozenConfig):
    """Rows of {id or key, prompt, instruction_id_list, kwargs}; `validation` has others.

    `sentences` are split by rules, or by nltk's model punkt_tab, which must be installed.
    """

    kind: Literal["instructions"] = "instructions"
    version: Literal[1] = VERSION
    data: DataSource
    validation: DataSource | None = None
    base_only: bool = False
    sentences: Literal["rules", "punkt_tab"] = "rules"

    def identity(self) -> dict[str, Any]:
        """What is asked; how it is checked is the evaluation's (`evaluation/config.py`)."""
        fields = type(self).model_fields
        return {name: getattr(self, name) for name in fields if name != "sentences"}

    @property
    def domain_files(self) -> tuple[str, ...]:
        """The files of the prepared domain that its rows come from."""
        return ()

    def for_validation(self) -> InstructionsBenchmark | None:
        return self.model_copy(update={"data": self.validation}) if self.validation else None

    def items(self, prepared: Path) -> list[Item]:
        items = []
        for number, (where, row) in enumerate(read_rows(self.data, FIELDS), 1):
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
            if unknown := sorted(set(ids) - set(ARGUMENTS)):
                raise InputError(
                    f"{where}: field 'instruction_id_list': no checker for {', '.join(unknown)}; "
                    f"known are {', '.join(ARGUMENTS)}"
                )
            checks = tuple(
                {"instruction_id": i, "kwargs": {k: v for k, v in kw.items() if v is not None}}
                for i, kw in zip(ids, kwargs, strict=True)
            )
            for check in checks:
                if problem := argument_problem(check["instruction_id"], check["kwargs"]):
                    raise InputError(f"{where}: field 'kwargs': {problem}")
            row_id = checked_id(where, row.get("id", row.get("key"))) or str(number)
            items.append(Item(row_id, prompt, prompt, checks=checks))
        return items


@dataclass(frozen=True, slots=True)
class Followed:
    """One instruction of a prompt, and whether the response follows it.

    Where that cannot be told it does not, and `problem` says why.
    """

    instruction_id: str
    strict: bool
    loose: bool
    problem: str = ""


def check_responses(
    items: Sequence[Item], responses: Sequence[Response], sentences: str = "rules"
) -> list[list[Followed]]:
    """Every instruction of every response, thinking blocks left out.

    Raises:
        InputError: sentences are to be split by a model that is not installed.
    """
    split_sentences_by(sentences)
    checked = []
    for item, response in zip(items, responses, strict=True):
        text = answer_text(response.response)
        checked.append([_follows(check, text, item.prompt) for check in item.checks])
    return checked


def _follows(check: Mapping[str, Any], text: str, prompt: str) -> Followed:
    """The checkers are a library's, and a row may bring a regular expression: neither may cost more
    than this one verdict.
    """
    instruction_id, kwargs = check["instruction_id"], check["kwargs"]
    try:
        with deadline(CHECK_SECONDS):
            strict = check_instruction(instruction_id, text, kwargs, prompt)
            loose = strict or check_instruction(instruction_id, text, kwargs, prompt, loose=True)
    except Exception as error:
        told = f"{type(error).__name__}: {error}"[:100]
        return Followed(instruction_id, False, False, told)
    return Followed(instruction_id, strict, loose)


def instruction_votes(checked: Sequence[Sequence[Followed]]) -> list[list[Vote]]:
    """One vote per response: all of its instructions followed, or which were not."""
    votes = []
    for followed in checked:
        broken = [f"{f.instruction_id} {f.problem}".strip() for f in followed if not f.strict]
        told = [f for f in followed if not f.strict and not f.problem]
        verdict: Verdict = "incorrect" if told else "cannot_tell" if broken else "correct"
        votes.append([Vote("strict", verdict, ", ".join(broken))])
    return votes


def instruction_levels(
    checked: Sequence[Sequence[Followed]], sentences: str = "rules"
) -> dict[str, Any]:
    """IFEval's four figures; prompts with their Wilson intervals, and what split the sentences.

    Instructions have none: those of one prompt depend on each other.
    """
    levels: dict[str, Any] = {}
    flat = [f for followed in checked for f in followed]
    for level in ("strict", "loose"):
        held = sum(all(getattr(f, level) for f in followed) for followed in checked)
        levels[f"prompt_{level}"] = asdict(wilson(held, len(checked)))
        share = sum(getattr(f, level) for f in flat) / len(flat) if flat else 0.0
        levels[f"instruction_{level}"] = {"value": share, "n": len(flat)}
    return levels | {"sentence_splitter": sentences}
