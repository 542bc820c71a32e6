"""Whether a text says a phrase, up to case and punctuation."""

from __future__ import annotations

import re


def mentions(text: str, phrase: str) -> bool:
    """Whether the words of `phrase` occur in `text`, up to case and punctuation."""
    return f" {normal(phrase)} " in f" {normal(text)} "


def normal(text: str) -> str:
    """Lower case, words apart by single spaces, no punctuation."""
    return " ".join(re.findall(r"\w+", text.casefold()))
