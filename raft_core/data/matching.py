"""Find phrases in a text up to case and punctuation, and list those that give a task away.

Of words only case and punctuation are left out. A number is its value with sign, percent and
currency: 1,200 = 1200 = 1200.00, -5 is not 5, 50% = 50 percent, $5 = 5 dollars. Names such as C++
and C# keep their signs, and comparisons and arithmetic between two operands theirs.
"""

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

_NUMBER = (
    r"\d{1,3}(?:[,\u00a0\u202f]\d{2,3}){0,9}[,\u00a0\u202f]\d{3}(?!\d)(?:\.\d+)?"  # 1,200.50
    r"|\d{1,3}(?:\.\d{3})+,\d{1,2}(?!\d)"  # 1.200,50
    r"|(?<!\d,)\d+,\d{1,2}(?![\d,])"  # 0,5, but no list of more
    r"|\d+(?:\.\d+)*|(?<!\.)\.\d+"
)
_CURRENCIES = {"$": "dollars", "€": "euros", "£": "pounds", "¥": "yen"}
_QUANTITY = (
    r"(?<!\w)(?P<sign>[-\u2212])?(?:(?P<before>[$€£¥])\s?(?P<inner>[-\u2212])?)?"
    rf"(?P<number>{_NUMBER})(?P<rest>\w*)"
    r"(?:(?P<million>\s(?:thousand|million|billion|trillion))\b)?"
    r"(?:\s?(?P<after>%|[$€£¥](?!\s?\d))|\s(?P<cent>per\scent)\b)?"
)
_OPERATOR = r"[<>]=?|[=!]=+|[=≤≥≠+*^]"
_OPERATION = (  # equal blanks on both sides, unlike markup
    rf"(?<=[\w)\]])(?P<close>{_OPERATOR})(?=[\w(\[]|-\d)"
    rf"|(?<=[\w)\]]\s)(?P<apart>{_OPERATOR})(?=\s[-.$€£¥]?[\w(\[])|(?<=\d)(?P<over>/)(?=\d)"
)
_TOKEN = re.compile(rf"{_QUANTITY}|{_OPERATION}|[^\W\d]\w*(?:\+\+|#)(?!\w)|\w+")


def mentions(text: str, phrase: str) -> bool:
    """Return whether the words of `phrase` occur in `text`, up to case and punctuation."""
    return f" {normal(phrase)} " in f" {normal(text)} "


def normal(text: str) -> str:
    """Return a text in lower case: words, numbers and operators apart by single spaces."""
    return " ".join(map(_token, _TOKEN.finditer(text.casefold())))


def _token(match: re.Match[str]) -> str:
    if match["number"] is None:
        return match[0]
    sign = "-" if match["sign"] or match["inner"] else ""
    said = sign + _value(match["number"]) + match["rest"] + (match["million"] or "")
    unit = match["before"] or match["after"]
    if unit == "%" or match["cent"]:
        return f"{said} percent"
    return f"{said} {_CURRENCIES[unit]}" if unit else said


def _value(number: str) -> str:
    """Return one spelling of a number; one with several points, such as a version, stays."""
    if re.fullmatch(r"\d{1,3}(?:\.\d{3})+,\d{1,2}", number):
        number = number.replace(".", "").replace(",", ".")
    elif re.fullmatch(r"\d+,\d{1,2}", number):
        number = number.replace(",", ".")
    number = re.sub(r"[,\u00a0\u202f]", "", number)
    if number.startswith("."):
        number = f"0{number}"
    return re.sub(r"^(\d+)\.00?$", r"\1", number)
