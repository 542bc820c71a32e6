"""Structured answers: the forms that models are asked for, and their strict reading.

Whatever stands in a document can change what a model says, never what is read from it: an answer
of any other form than the one that was asked for is no answer.
"""

from __future__ import annotations

import json
import re
from typing import Any

from raft_core.data.sources import once
from raft_core.documents.records import CRITERIA, Opinion
from raft_core.engines.base import answer_text

OPINIONS: dict[str, Opinion] = {"yes": "yes", "no": "no", "cannot tell": "cannot_tell"}
TEXTS = ("question", "answer")
MARKERS = re.compile(r"<(?=\s*(?:/\s*)?(?:title|passage|question|answer)\s*>)", re.IGNORECASE)
FENCED = re.compile(r"```(?:json)?\s*\n(.*)\n\s*```", re.DOTALL)
MAX_QUESTION, MAX_ANSWER = 2_000, 10_000


class MalformedError(ValueError):
    """The answer is not of the form that was asked for."""


def pairs_schema(most: int) -> dict[str, Any]:
    """Up to `most` questions with their answers, in the words that all endpoints know."""
    pair = {
        "type": "object",
        "properties": {name: {"type": "string"} for name in TEXTS},
        "required": list(TEXTS),
        "additionalProperties": False,
    }
    return {
        "type": "object",
        "properties": {"pairs": {"type": "array", "items": pair, "maxItems": most}},
        "required": ["pairs"],
        "additionalProperties": False,
    }


VERDICT_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {c: {"type": "string", "enum": list(OPINIONS)} for c in CRITERIA},
    "required": list(CRITERIA),
    "additionalProperties": False,
}


def fenced(text: str) -> str:
    """Data for between a prompt's markers, which it cannot close: `</passage>` gets a backslash."""
    return MARKERS.sub(r"<\\", text)


def read_pairs(text: str) -> list[dict[str, str] | str]:
    """The pairs of a model's answer; in place of one that is none stands what is wrong with it.

    Raises:
        MalformedError: the answer as a whole is not of the form.
    """
    given = read_object(text)
    if given.keys() != {"pairs"} or not isinstance(given["pairs"], list):
        raise MalformedError(f"not an object of 'pairs' alone, but of {sorted(given)}"[:200])
    return [_pair(item) for item in given["pairs"]]


def _pair(item: Any) -> dict[str, str] | str:
    if not isinstance(item, dict) or item.keys() != set(TEXTS):
        return "not an object of question and answer alone"
    for field, longest in zip(TEXTS, (MAX_QUESTION, MAX_ANSWER), strict=True):
        value = item[field]
        if not isinstance(value, str) or not re.search(r"\w", value):
            return f"the {field} is no text"
        if len(value) > longest:
            return f"the {field} has {len(value):,} characters"
        if "\0" in value or any("\ud800" <= character <= "\udfff" for character in value):
            return f"the {field} holds a NUL or half of a character"
    return {field: item[field].strip() for field in TEXTS}


def read_verdict(text: str) -> dict[str, Opinion]:
    """One opinion a criterion.

    Raises:
        MalformedError: the answer is anything but an object of exactly these.
    """
    given = read_object(text)
    if given.keys() != set(CRITERIA):
        raise MalformedError(
            f"not an object of {', '.join(CRITERIA)}, but of {sorted(given)}"[:200]
        )
    for name, value in given.items():
        if not isinstance(value, str) or value not in OPINIONS:
            raise MalformedError(f"{name} is {value!r}, none of {', '.join(OPINIONS)}"[:200])
    return {name: OPINIONS[given[name]] for name in CRITERIA}


def read_object(text: str) -> dict[str, Any]:
    """The JSON object that an answer is, its thinking block and one code fence around it left out.

    Raises:
        MalformedError: it is no JSON, no object, or names a field twice.
    """
    said = answer_text(text)
    fence = FENCED.fullmatch(said)
    try:
        given = json.loads(fence[1] if fence else said, object_pairs_hook=once)
    except (ValueError, RecursionError) as error:
        reason = "nested too deep" if isinstance(error, RecursionError) else str(error)
        raise MalformedError(f"not JSON ({reason}): {said[:100]}") from None
    if not isinstance(given, dict):
        raise MalformedError(f"a {type(given).__name__}, no object")
    return given
