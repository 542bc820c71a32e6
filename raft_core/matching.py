"""Whether a text says a phrase, up to case and punctuation; phrases that give a task away."""

from __future__ import annotations

import re

LEAK_PHRASES = (
    "reference answer",
    "reference knowledge",
    "background knowledge",
    "provided answer",
    "given answer",
    "original answer",
    "based on the reference",
    "according to the reference",
    "in my own words",
    "in your own words",
    "rewritten answer",
    "as an ai",
)


def mentions(text: str, phrase: str) -> bool:
    """Whether the words of `phrase` occur in `text`, up to case and punctuation."""
    return f" {normal(phrase)} " in f" {normal(text)} "


def normal(text: str) -> str:
    """Lower case, words apart by single spaces, no punctuation."""
    return " ".join(re.findall(r"\w+", text.casefold()))
