"""What a benchmark is made of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Item:
    """One prompt of a benchmark, with what its scoring needs to know."""

    id: str
    prompt: str
    question: str
    reference: str = ""
    expected: tuple[str, ...] = ()
    checks: tuple[dict[str, Any], ...] = ()


@dataclass(frozen=True, slots=True)
class Response:
    """What the model said to one item; kept, so that scoring again needs no model."""

    benchmark: str
    id: str
    prompt: str
    response: str
    finish_reason: str
    tokens: int
    error: str = ""
