"""Read dates in the orders and spellings in use, in English and its neighbours."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

_NAMES = """
january jan janvier januar enero gennaio janeiro januari
february feb février fevrier februar febrero febbraio fevereiro februari
march mar mars märz marzo março maart
april apr avril abril aprile
may mai mayo maggio maio mei
june jun juin juni junio giugno junho
july jul juillet juli julio luglio julho
august aug août agosto augustus
september sep sept septembre septiembre settembre setembro
october oct octobre oktober octubre ottobre outubro
november nov novembre noviembre novembro
december dec décembre dezember diciembre dicembre dezembro
"""
_MONTHS = {
    name: month for month, line in enumerate(_NAMES.split("\n")[1:], 1) for name in line.split()
}
_ENGLISH = frozenset(
    "january february march april may june july august september october november december".split()
)
_MONTH = "(?P<month>" + "|".join(sorted(_MONTHS, key=len, reverse=True)) + r")\b\.?"
_ENDING = r"(?:st|nd|rd|th|er|º|\.)?"
_YEAR = r"(?P<year>1\d{3}|20\d\d)"
_RANGE = r"\s?(?:-|to|until|through|bis|au|al)\s?"
_WRITTEN = [
    re.compile(  # 5 May, 5th of May 2020, 5 to 7 May, 5. Mai, 5 de mayo de 2020
        rf"(?<![\w.,$€£])(?:(?P<other>[0-3]?\d){_ENDING}(?:{_RANGE}|\s(?:and|or|und|et|y|e)\s))?"
        rf"(?<!\d)(?:the\s)?(?P<day>[0-3]?\d)(?P<ending>{_ENDING})(?:\s(?:of|de))?\s{_MONTH}"
        rf"(?:,?\s(?:de\s)?{_YEAR}(?!\d))?",
        re.I,
    ),
    re.compile(  # May 5, May the 5th, May 5-7, 2020
        rf"(?<!\w){_MONTH}\s(?:the\s)?(?P<day>[0-3]?\d){_ENDING}(?![\w%]|\.\d)"
        rf"(?:{_RANGE}(?P<other>[0-3]?\d){_ENDING}(?![\w%]|[.,-]\d)(?!\s[A-Z]))?"
        rf"(?:,?\s{_YEAR}(?!\d))?",
        re.I,
    ),
    re.compile(r"(?<![\d-])(?P<year>[12]\d{3})-(?P<month>[01]\d)-(?P<day>[0-3]\d)(?![\d-])"),
    re.compile(r"(?P<year>[12]\d{3})\s*年\s*(?P<month>\d{1,2})\s*月\s*(?P<day>\d{1,2})\s*日"),
    re.compile(
        rf"(?<!\w){_MONTH},?\s(?:of\s|de\s)?(?P<year>1[7-9]\d\d|20\d\d)(?![\d%]|[.,]\d)", re.I
    ),
]
_MENTIONED = re.compile(rf"(?<!\w){_MONTH}", re.I)
_ENDS_WITH_A_MONTH = re.compile(rf"(?<!\w){_MONTH}\s(?:the\s)?$", re.I)
_SLASHED = re.compile(r"(?<![\d/.])([0-3]?\d)([/.])([0-3]?\d)\2([12]\d{3})(?![\d/])")


class Date(NamedTuple):
    """A day as 100 month + day; a month without a day as 100 month.

    `03/04/2020` has both readings, the one with the month in front first. A date that is not `sure`
    may be none (`20 may agree`), or is a month alone.
    """

    start: int
    end: int
    days: tuple[int, ...]
    day: tuple[int, ...]
    year: int | None
    sure: bool = True


def dates(text: str) -> Iterator[Date]:
    """Yield the dates of a plain text, the fullest first; later ones may repeat a part of one."""
    for pattern in _WRITTEN:
        for match in pattern.finditer(text):
            yield from _written(match)
    for match in _SLASHED.finditer(text):
        one, other = int(match[1]), int(match[3])
        readings = [
            100 * month + day
            for month, day in ((one, other), (other, one))
            if 1 <= month <= 12 and 1 <= day <= 31
        ]
        if match[2] == ".":  # day first, where both readings are dates
            readings = readings[-1:]
        if readings:
            days = tuple(dict.fromkeys(readings))
            yield Date(match.start(), match.end(), days, (one, other), int(match[4]))
    for match in _MENTIONED.finditer(text):
        if not _may_be_a_word(match["month"]):
            month = 100 * _MONTHS[match["month"].casefold()]
            yield Date(match.start(), match.end(), (month,), (), None, sure=False)


def _written(match: re.Match[str]) -> Iterator[Date]:
    found, text = match.groupdict(), match.string
    said, start = found["month"], match.start()
    month = _MONTHS.get(said.casefold()) or int(said)
    year = int(found["year"]) if found["year"] else None
    days = [int(found["day"])] if "day" in found else []
    if found.get("other") and match.start("other") < match.start("day"):
        if _ENDS_WITH_A_MONTH.search(text[max(0, start - 16) : start]):  # May 12 and 14 June
            start = match.start("day")
        else:
            days.insert(0, int(found["other"]))
    elif found.get("other"):
        days.append(int(found["other"]))
    if not 1 <= month <= 12 or not all(1 <= day <= 31 for day in days):
        return
    # "There were 5. May was cold." and "It was in May. 5 came."
    stopped = found.get("ending") == "." or (
        bool(days) and match.end("month") < match.start("day") and text[match.end("month")] == "."
    )
    ends_a_sentence = stopped and said.casefold() in _ENGLISH
    sure = not _may_be_a_word(said) and not ends_a_sentence
    sure = sure or (year is not None and bool(days))
    for day in days:
        yield Date(start, match.end(), (100 * month + day,), (day,), year, sure)
    if not days:
        yield Date(start, match.end(), (100 * month,), (), year, sure)


def _may_be_a_word(month: str) -> bool:
    """Return whether a month may be another word: `may`, `march` and `Mars`, unlike `May`."""
    if month.casefold() == "mars":
        return not month.islower()
    return month.casefold() in ("may", "march", "mar") and not month.istitle()
