"""A generator that says what it is told, and a passage."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from raft_core.documents.records import Passage
from raft_core.engines.base import Completion, GenerationRequest


class Scripted:
    """Answers each request by a function of its prompt, and remembers what it was asked."""

    def __init__(self, answer: Callable[[str], str | Completion]) -> None:
        self.answer, self.requests, self.schema, self.closed = answer, [], None, 0

    def generate(
        self, requests: Sequence[GenerationRequest], sampling: Any, **options: Any
    ) -> list[Completion]:
        self.requests += requests
        self.schema = options.get("json_schema")
        said = [self.answer(request.prompt) for request in requests]
        return [s if isinstance(s, Completion) else Completion(s, (), "stop") for s in said]

    def close(self) -> None:
        self.closed += 1


def passage(text: str, name: str = "d:0000", title: str = "A file") -> Passage:
    return Passage(name, "d", "d.txt", title, "", "0" * 64, 0, len(text), text)
