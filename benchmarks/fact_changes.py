"""Changes of texts that alter a fact, and changes that alter none: what the fact guard is tried on.

They know nothing of the guard: plain patterns, chosen by a seed, one change a text.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable

# The text with one change, or None where it has nothing to change.
Change = Callable[[str, random.Random], str | None]

_NUMBER = re.compile(r"(?<![\w.,-])\d+(?:[.,]\d+)*(?![\w]|[.,]\d)|(?<![\w.,])\d+(?:\.\d+)?(?=%|-)")
_CODE = re.compile(r"\b[A-Za-z]+\d+\b")
_WORDS = "two three four five six seven eight nine ten".split()
_UNITS = {"mg": "g", "g": "kg", "kg": "g", "mm": "cm", "cm": "mm", "km": "m", "ml": "l",
          "days": "weeks", "weeks": "months", "months": "years", "years": "months", "hours": "days",
          "minutes": "hours", "h": "min", "day": "week", "week": "month", "month": "year",
          "year": "month", "hour": "minute"}  # fmt: skip
_AUXILIARY = re.compile(
    r"\b(?:is|are|was|were|has|have|had|can|could|may|might|will|would|should|must|does|do|did)\b"
    r"(?!\s+(?:not|no|never|neither|nor|only)\b|n't|\s*[.,;?!]|\s+or\b)",
    re.I,
)


def _one(
    text: str, found: list[re.Match[str]], rng: random.Random, into: Callable[[re.Match[str]], str]
) -> str | None:
    if not found:
        return None
    match = rng.choice(found)
    return text[: match.start()] + into(match) + text[match.end() :]


def another_number(text: str, rng: random.Random) -> str | None:
    """One digit of a number is another one."""

    def changed(match: re.Match[str]) -> str:
        said = match[0]
        at = rng.choice([i for i, c in enumerate(said) if c.isdigit()])
        return said[:at] + rng.choice([d for d in "123456789" if d != said[at]]) + said[at + 1 :]

    return _one(text, list(_NUMBER.finditer(text)), rng, changed)


def another_number_word(text: str, rng: random.Random) -> str | None:
    found = list(re.finditer(rf"\b(?:{'|'.join(_WORDS)})\b", text))
    return _one(text, found, rng, lambda m: rng.choice([w for w in _WORDS if w != m[0]]))


def another_code(text: str, rng: random.Random) -> str | None:
    """The last digit of a name such as DKK3 is another one."""
    found = list(_CODE.finditer(text))
    return _one(
        text, found, rng, lambda m: m[0][:-1] + rng.choice([d for d in "23456789" if d != m[0][-1]])
    )


def another_unit(text: str, rng: random.Random) -> str | None:
    found = list(re.finditer(rf"(?<=\d[ -])(?:{'|'.join(_UNITS)})\b", text))
    return _one(text, found, rng, lambda m: _UNITS[m[0]])


def not_inserted(text: str, rng: random.Random) -> str | None:
    """`not` after an auxiliary that has none."""
    return _one(text, list(_AUXILIARY.finditer(text)), rng, lambda m: f"{m[0]} not")


def _replaced(pattern: str, into: str) -> Change:
    compiled = re.compile(pattern, re.I)

    def change(text: str, rng: random.Random) -> str | None:
        return _one(text, list(compiled.finditer(text)), rng, lambda m: m.expand(into))

    return change


ALTERING: dict[str, Change] = {
    "number": another_number,
    "number word": another_number_word,
    "number in a name": another_code,
    "unit": another_unit,
    "not inserted": not_inserted,
    "not removed": _replaced(r"\b(?<!or )not (?!only\b|just\b|merely\b)", ""),
    "cannot, n't removed": _replaced(r"\b(can|do|does|did|is|was|are|were)(?:not|n['’]t)\b", r"\1"),
    "no removed": _replaced(r"\bno (?=[a-z])", ""),
    "without -> with": _replaced(r"\bwithout\b", "with"),
    "never -> always": _replaced(r"\bnever\b", "always"),
    "neither nor -> both and": _replaced(r"\bneither (.{1,80}?) nor\b", r"both \1 and"),
    "fail, lack, unable, unlikely turned": lambda text, rng: rng.choice(_TURNS)(text, rng) or next(
        (changed for turn in _TURNS if (changed := turn(text, rng))), None
    ),
}  # fmt: skip
_TURNS = [
    _replaced(r"\bfail(?:ed|s)? to\b", "managed to"),
    _replaced(r"\black of\b", "presence of"),
    _replaced(r"\bunable to\b", "able to"),
    _replaced(r"\bunlikely\b", "likely"),
]


def _everywhere(pattern: str, into: str | Callable[[re.Match[str]], str]) -> Change:
    compiled = re.compile(pattern)

    def change(text: str, rng: random.Random) -> str | None:
        changed = compiled.sub(into, text)
        return changed if changed != text else None

    return change


def sentences_shuffled(text: str, rng: random.Random) -> str | None:
    sentences = re.split(r"(?<=[a-z)]\.)\s+(?=[A-Z])", text)
    return " ".join(reversed(sentences)) if len(sentences) > 1 else None


def _digits_as_word(match: re.Match[str]) -> str:
    return _WORDS[int(match[0]) - 2]


HARMLESS: dict[str, Change] = {
    "unchanged": lambda text, rng: text,
    "1000 -> 1,000": _everywhere(
        r"(?<![\w.,-])(?!19\d\d|20\d\d)\d{4,}(?![\w.,-]\d)", lambda m: f"{int(m[0]):,}"
    ),
    "1,000 -> 1000": _everywhere(r"(?<=\d),(?=\d{3}\b)", ""),
    "% -> percent": _everywhere(r"(?<=\d)%", " percent"),
    "0.5 -> .5": _everywhere(r"\b0(?=\.\d)", ""),
    "0.5 -> 0.50": _everywhere(r"(?<!\S)\d+\.\d+(?![\w.]*\d)", lambda m: m[0] + "0"),
    "2 -> two": _everywhere(
        r"(?<![\w.,/+<>=≥≤-])(?<![<>=≥≤] )(?:[2-9]|10)(?= [a-z]{5,})", _digits_as_word
    ),
    "two -> 2": _everywhere(
        rf"\b(?:{'|'.join(_WORDS)})\b", lambda m: str(_WORDS.index(m[0]) + 2)
    ),
    "capitals": lambda text, rng: text.upper(),
    "small letters": lambda text, rng: text.lower(),
    "white space": lambda text, rng: "  " + re.sub(r" ", "  ", text) + "\n",
    "order of sentences": sentences_shuffled,
    "do not -> don't": _everywhere(r"\b(do|does|did|is|was|are|were|could|should) not\b", r"\1n't"),
    "don't -> do not": _everywhere(
        r"\b(do|does|did|is|was|are|were|could|should)n['’]t\b", r"\1 not"
    ),
    "cannot -> can't": _everywhere(r"\bcannot\b", "can't"),
    "- -> –": _everywhere(r"(?<=\d)-(?=\d)", "–"),
}  # fmt: skip
