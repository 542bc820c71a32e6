"""Changes of texts that alter a fact, and changes that alter none, to try the fact guard on.

They know nothing of the guard: plain patterns, chosen by a seed, one change a text.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from datetime import date

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
    """Change one digit of a number."""

    def changed(match: re.Match[str]) -> str:
        said = match[0]
        at = rng.choice([i for i, c in enumerate(said) if c.isdigit()])
        return said[:at] + rng.choice([d for d in "123456789" if d != said[at]]) + said[at + 1 :]

    return _one(text, list(_NUMBER.finditer(text)), rng, changed)


def another_number_word(text: str, rng: random.Random) -> str | None:
    found = list(re.finditer(rf"\b(?:{'|'.join(_WORDS)})\b", text))
    return _one(text, found, rng, lambda m: rng.choice([w for w in _WORDS if w != m[0]]))


def another_code(text: str, rng: random.Random) -> str | None:
    """Change the last digit of a name such as DKK3."""
    found = list(_CODE.finditer(text))
    return _one(
        text, found, rng, lambda m: m[0][:-1] + rng.choice([d for d in "23456789" if d != m[0][-1]])
    )


def another_unit(text: str, rng: random.Random) -> str | None:
    found = list(re.finditer(rf"(?<=\d[ -])(?:{'|'.join(_UNITS)})\b", text))
    return _one(text, found, rng, lambda m: _UNITS[m[0]])


def not_inserted(text: str, rng: random.Random) -> str | None:
    """Insert `not` after an auxiliary that has none."""
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


_MONTHS = [f"{date(2000, month, 1):%B}" for month in range(1, 13)]
_DATE = re.compile(
    rf"(?P<d1>\d+) (?P<b1>{'|'.join(_MONTHS)}) (?P<y1>\d{{4}})"
    rf"|(?P<b2>{'|'.join(_MONTHS)}) (?P<d2>\d+), (?P<y2>\d{{4}})"
    rf"|(?P<y3>\d{{4}})-(?P<m3>\d\d)-(?P<d3>\d\d)"
    rf"|(?P<b4>{'|'.join(_MONTHS)}) (?P<y4>\d{{4}})"
)


def _spelled(when: date) -> list[str]:
    return [f"{when.day} {when:%B} {when.year}", f"{when:%B} {when.day}, {when.year}", f"{when}"]


def with_date(text: str, rng: random.Random) -> str:
    """Add a date at the end of one of the text's sentences; a fifth have no day."""
    when = date(rng.randint(1950, 2024), rng.randint(1, 12), rng.randint(1, 28))
    said = f"in {when:%B %Y}" if rng.random() < 0.2 else f"on {rng.choice(_spelled(when))}"
    ends = [match.start() for match in re.finditer(r"\.(?=\s|$)", text)] or [len(text)]
    at = rng.choice(ends)
    return f"{text[:at]} {said}{text[at:]}"


def _of_date(part: str, values: range | list[str], pad: bool = False) -> Change:
    """Change one part of a date: `d`ay, `b` or `m` for the month, `y`ear."""

    def change(text: str, rng: random.Random) -> str | None:
        found = [
            span
            for match in _DATE.finditer(text)
            for name in match.groupdict()
            if name[0] == part and match[name] and (span := match.span(name))
        ]
        if not found:
            return None
        start, end = rng.choice(found)
        others = [f"{value:02}" if end - start == 2 and pad else str(value) for value in values]
        others = [other for other in others if other != text[start:end]]
        return text[:start] + rng.choice(others) + text[end:]

    return change


def date_in_another_order(text: str, rng: random.Random) -> str | None:
    def other(match: re.Match[str]) -> str:
        found = {name[0]: said for name, said in match.groupdict().items() if said}
        if "d" not in found:
            return match[0]
        month = int(found["m"]) if "m" in found else _MONTHS.index(found["b"]) + 1
        spelled = _spelled(date(int(found["y"]), month, int(found["d"])))
        return rng.choice([way for way in spelled if way != match[0]])

    changed = _DATE.sub(other, text)
    return changed if changed != text else None


# For texts `with_date`.
DATES_ALTERED: dict[str, Change] = {
    "month in words": _of_date("b", _MONTHS),
    "month in digits": _of_date("m", range(1, 13), pad=True),
    "day": _of_date("d", range(1, 29), pad=True),
    "year": _of_date("y", range(1950, 2025)),
}
DATES_HARMLESS: dict[str, Change] = {"date in another order": date_in_another_order}
