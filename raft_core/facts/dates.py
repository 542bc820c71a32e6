"""Dates in the orders and spellings in which they are written."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

_MONTHS = {
    name[:length]: number
    for number, name in enumerate(
        "january february march april may june july august september october november "
        "december".split(),
        start=1,
    )
    for length in {3, len(name)} | ({4} if name == "september" else set())
}
_MONTH = "(?P<month>" + "|".join(sorted(_MONTHS, key=len, reverse=True)) + r")\b\.?"
_DAY = r"(?P<day>[0-3]?\d)(?:st|nd|rd|th)?"
_YEAR = r"(?P<year>[12]\d{3})"
_WRITTEN = [
    re.compile(rf"(?<![\w.]){_DAY}(?:\s+of)?\s+{_MONTH}(?:,?\s+{_YEAR}(?!\d))?", re.I),
    re.compile(rf"(?<!\w){_MONTH}\s+(?:the\s+)?{_DAY}(?![\w%]|\.\d)(?:,?\s+{_YEAR}(?!\d))?", re.I),
    re.compile(r"(?<![\d-])(?P<year>[12]\d{3})-(?P<month>[01]\d)-(?P<day>[0-3]\d)(?![\d-])"),
    re.compile(r"(?P<year>[12]\d{3})\s*年\s*(?P<month>\d{1,2})\s*月\s*(?P<day>\d{1,2})\s*日"),
]
_SLASHED = re.compile(r"(?<![\d/.])([0-3]?\d)([/.])([0-3]?\d)\2([12]\d{3})(?![\d/])")


class Date(NamedTuple):
    """Month and day as 100 month + day, both readings where `03/04/2020` may be either."""

    start: int
    end: int
    days: tuple[int, ...]
    day: tuple[int, ...]
    year: int | None


def dates(text: str) -> Iterator[Date]:
    for pattern in _WRITTEN:
        for match in pattern.finditer(text):
            said = match["month"].casefold()
            month, day = _MONTHS.get(said) or int(said), int(match["day"])
            if 1 <= month <= 12 and 1 <= day <= 31:
                year = int(match["year"]) if match["year"] else None
                yield Date(match.start(), match.end(), (100 * month + day,), (day,), year)
    for match in _SLASHED.finditer(text):
        one, other = int(match[1]), int(match[3])
        days = tuple(100 * m + d for m, d in {(one, other), (other, one)} if m <= 12 and d <= 31)
        if days:
            yield Date(match.start(), match.end(), days, (one, other), int(match[4]))
