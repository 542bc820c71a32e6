"""Records of the rows that pass between stages: frozen, each with the id of its domain row."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")


@dataclass(frozen=True, slots=True)
class Example:
    """One question with its reference answer.

    `expected` optionally lists short strings that a right answer contains; rule judges use them
    for scoring, and SDFT to check its rewrites.
    """

    id: str
    question: str
    answer: str
    split: Split
    expected: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Rejection:
    """A row, or what was generated for it, that a stage did not keep, and why."""

    id: str
    stage: str
    reason: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Rewrite:
    """The base model's own wording of a reference answer (eq. 1)."""

    id: str
    text: str
    finish_reason: str
    tokens: int
    error: str = ""


@dataclass(frozen=True, slots=True)
class FilteredRewrite:
    """A rewrite with its cosine to the reference and the verdict of the filter (eqs. 2-3).

    The cosine is None where there is no text to compare. `guard` tells of every rule of the fact
    guard that failed what was lost and what is new; it is None where the guard was not asked.
    """

    id: str
    text: str
    similarity: float | None
    passed: bool
    reason: str = ""
    detail: str = ""
    guard: dict[str, str] | None = None


@dataclass(frozen=True, slots=True)
class FusedAnswer:
    """A row of the fused set: the answer that SFT learns and that the teacher reads (eq. 4)."""

    id: str
    question: str
    answer: str
    source: Literal["fused", "rewrite", "reference"]


Verdict = Literal["correct", "incorrect", "cannot_tell"]


@dataclass(frozen=True, slots=True)
class Vote:
    """One judge's verdict on one answer; a judge that fails or refuses votes `cannot_tell`."""

    judge: str
    verdict: Verdict
    detail: str = ""


Row = TypeVar("Row")


def write_jsonl(path: str | Path, rows: Iterable[Any]) -> int:
    """Write records or dicts, one JSON object a line; return how many."""
    count = 0
    with open(path, "w", encoding="utf-8") as handle:
        for row in rows:
            plain = row if isinstance(row, dict) else asdict(row)
            handle.write(json.dumps(plain, ensure_ascii=False) + "\n")
            count += 1
    return count


def read_jsonl(path: str | Path) -> Iterator[dict[str, Any]]:
    """Yield the objects of a JSONL file that a stage wrote."""
    with open(path, encoding="utf-8") as handle:
        for line in handle:
            yield json.loads(line)


def read_records(path: str | Path, kind: type[Row]) -> list[Row]:
    """Return the rows of a stage's file as records of one kind."""
    return list(iter_records(path, kind))


def iter_records(path: str | Path, kind: type[Row]) -> Iterator[Row]:
    """Yield the rows of a stage's file as records of one kind."""
    for row in read_jsonl(path):
        yield kind(**{k: _frozen(v) for k, v in row.items()})


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
