"""The rows that pass between the document stages, each with where it comes from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Opinion = Literal["yes", "no", "cannot_tell"]
CRITERIA = ("answerable", "grounded", "self_contained")


@dataclass(frozen=True, slots=True)
class Document:
    """One text to ask about.

    `source` says where it lies below what was given, or what its row says of its source. `sha256`
    is that of the file, or of a row's text. Offsets count characters of `text`, whose lines end in
    a line feed alone.
    """

    id: str
    source: str
    title: str
    text: str
    sha256: str
    markdown: bool = False


@dataclass(frozen=True, slots=True)
class Passage:
    """The characters `start` to `end` of a document; `heading` is the path of headings above."""

    id: str
    document: str
    source: str
    title: str
    heading: str
    sha256: str
    start: int
    end: int
    text: str

    @property
    def place(self) -> str:
        """Title and headings, as a reader of the passage would know them."""
        return " > ".join(part for part in (self.title, self.heading) if part)


@dataclass(frozen=True, slots=True)
class Pair:
    """A question on a passage with its answer; `expected` are words that a right answer has."""

    id: str
    passage: str
    question: str
    answer: str
    expected: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PairVote:
    """One voter's opinions on one pair; None where its kind is not asked for one."""

    voter: str
    answerable: Opinion
    grounded: Opinion
    self_contained: Opinion | None = None
    detail: str = ""

    @property
    def approves(self) -> bool:
        """Whether every opinion that it was asked for is a yes."""
        return {self.answerable, self.grounded, self.self_contained or "yes"} == {"yes"}
