"""Numbers that are written as words.

A *firm* one must be said again, like digits (`twenty`). A loose one may be put otherwise (`one`,
`both`, `twice`): it explains a number of the other text and needs no counterpart itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from raft_core.facts.units import FOLD, PERCENT, UNITS, Unit

_SMALL = {
    word: value
    for value, word in enumerate(
        "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen "
        "fifteen sixteen seventeen eighteen nineteen".split()
    )
}
_TENS = {
    word: 10 * value
    for value, word in enumerate(
        "twenty thirty forty fifty sixty seventy eighty ninety".split(), start=2
    )
}
MAGNITUDES = {
    "hundred": 1e2, "thousand": 1e3, "million": 1e6, "billion": 1e9, "trillion": 1e12, "dozen": 12,
    "mn": 1e6, "bn": 1e9, "k": 1e3, "万": 1e4, "亿": 1e8, "lakh": 1e5, "crore": 1e7,
    "mio": 1e6, "millionen": 1e6, "millones": 1e6, "mrd": 1e9, "milliarden": 1e9, "milliards": 1e9,
}  # fmt: skip
_ORDINALS = {
    word: value
    for value, word in enumerate(
        "third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth thirteenth "
        "fourteenth fifteenth sixteenth seventeenth eighteenth nineteenth twentieth".split(),
        start=3,
    )
}
_PARTS = {"half": 2, "halves": 2, "quarter": 4, "quarters": 4} | {
    word + ending: value for word, value in _ORDINALS.items() if value <= 10 for ending in ("", "s")
}
_LOOSE: dict[str, tuple[tuple[float, Unit | None], ...]] = {
    word: ((value, None),)
    for words, value in {
        "one single once sole alone first": 1, "both pair pairs couple second": 2,
        "no none nil zero": 0, "dozen": 12, "hundred hundreds": 1e2, "thousand thousands": 1e3,
        "million millions": 1e6, "ii": 2, "iii": 3, "iv": 4, "vi": 6, "vii": 7, "viii": 8, "ix": 9,
        # spelled in other languages, where digits may replace them
        "deux zwei dos due dois twee": 2, "trois drei tres tre três drie": 3,
        "quatre vier cuatro quattro quatro": 4, "cinq fünf cinco cinque vijf": 5,
        "sechs seis sei zes": 6, "sept sieben siete sette sete": 7, "huit acht ocho otto oito": 8,
        "neuf neun nueve nove negen": 9, "dix zehn diez dieci dez tien": 10, "onze elf undici": 11,
        "douze zwölf doce dodici doze twaalf": 12,
    }.items()
    for word in words.split()
} | {
    "half": ((0.5, None), (50, PERCENT)), "quarter": ((0.25, None), (25, PERCENT)),
    **dict.fromkeys("twice double doubled doubles doubling".split(), ((2, None), (2, FOLD))),
    **dict.fromkeys("thrice triple tripled triples tripling".split(), ((3, None), (3, FOLD))),
}  # fmt: skip

_CARDINAL = "|".join([*_SMALL, *_TENS])
_RUN = re.compile(
    rf"(?<![\w'])(?:(?:a|an)\s+(?=hundred\b|thousand\b|million\b|billion\b|dozen\b)|"
    rf"(?:{_CARDINAL})\b)"
    rf"(?:[\s-]+(?:{_CARDINAL}|hundred|thousand|million|billion|trillion|dozen)\b"
    rf"|(?<=hundred)\s+and\s+(?:{_CARDINAL})\b|(?<=thousand)\s+and\s+(?:{_CARDINAL})\b)*",
    re.I,
)
_PART = re.compile(rf"[\s-]+({'|'.join(_PARTS)})\b", re.I)
_A_PART = re.compile(r"(?<!\w)an?\s+(third|fourth|fifth|sixth|eighth|tenth)\b(?=\s+of\b)", re.I)
_FOLD = re.compile(rf"(?<!\w)({_CARDINAL})-?fold\b", re.I)
_ORDINAL = re.compile(rf"(?<!\w)(?:(?:({'|'.join(_TENS)})-)?({'|'.join(_ORDINALS)}))(?!\w)", re.I)
_WORD = re.compile(r"[^\W\d_]+(?:-(?=\w))?")
_HAN = re.compile(
    "(百分之)?([〇零一二两三四五六七八九十百千万亿]+)(?:点([〇零一二三四五六七八九]+)([万亿]?))?"
)
# Neither 一 (also "as soon as"), nor 十分 (very) or 千万 (by all means).
_FIRM_HAN = re.compile("[一二两三四五六七八九]+[十百千万亿]+.*|十[一二三四五六七八九万亿]+")
_HAN_DIGITS = {c: v for v, c in enumerate("零一二三四五六七八九")} | {"〇": 0, "两": 2}
_HAN_STEPS = {"十": 10, "百": 100, "千": 1000}


class WordNumber(NamedTuple):
    start: int
    end: int
    value: float
    unit: Unit | None
    firm: bool


def number_words(text: str) -> Iterator[WordNumber]:
    """Numbers in words, firm ones first; `text` is plain."""
    taken = bytearray(len(text))
    for found in (*_fractions(text), *_folds(text), *_ordinals(text), *_cardinals(text)):
        if not any(taken[found.start : found.end]):
            taken[found.start : found.end] = b"1" * (found.end - found.start)
            yield found
    for match in _WORD.finditer(text):
        if taken[match.start()]:
            continue
        for value, unit in _LOOSE.get(match[0].rstrip("-").casefold(), ()):
            yield WordNumber(match.start(), match.end(), value, unit, False)
    for match in re.finditer(r"(?<!\w)(?:an?|per|each|every)\s+([a-z]+)", text, re.I):
        if match[1].casefold() in UNITS and match[1].casefold() != "cent":
            yield WordNumber(match.start(), match.start(1), 1, UNITS[match[1].casefold()], False)
    for match in _HAN.finditer(text):
        unit = PERCENT if match[1] else None
        firm = _FIRM_HAN.fullmatch(match[2]) is not None or match[3] is not None
        value = _han_value(match[2])
        if match[3]:
            value += float("0." + "".join(str(_HAN_DIGITS[c]) for c in match[3]))
            value *= MAGNITUDES.get(match[4], 1)
        yield WordNumber(match.start(), match.end(), value, unit, firm)


def _fractions(text: str) -> Iterator[WordNumber]:
    """`two thirds`, `one-quarter`, `a fifth of`: firm."""
    for match in _RUN.finditer(text):
        part = _PART.match(text, match.end())
        if part and (value := _value(match[0])) is not None and value < _PARTS[part[1].casefold()]:
            share = value / _PARTS[part[1].casefold()]
            yield WordNumber(match.start(), part.end(), share, None, True)
    for match in _A_PART.finditer(text):
        yield WordNumber(match.start(), match.end(), 1 / _PARTS[match[1].casefold()], None, True)


def _folds(text: str) -> Iterator[WordNumber]:
    for match in _FOLD.finditer(text):
        value = _value(match[1])
        if value is not None:
            yield WordNumber(match.start(), match.end(), value, FOLD, True)


def _ordinals(text: str) -> Iterator[WordNumber]:
    for match in _ORDINAL.finditer(text):
        tens = _TENS.get((match[1] or "").casefold(), 0)
        value = tens + _ORDINALS[match[2].casefold()]
        yield WordNumber(match.start(), match.end(), value, None, True)


def _cardinals(text: str) -> Iterator[WordNumber]:
    for match in _RUN.finditer(text):
        value = _value(match[0])
        if value is not None and value >= 2:
            yield WordNumber(match.start(), match.end(), value, None, True)


def _value(run: str) -> float | None:
    """`two hundred and five` -> 205; None where the words are no one number (`two three`)."""
    total = current = 0.0
    last = float("inf")
    for word in re.split(r"[\s-]+", run.casefold()):
        if word in MAGNITUDES:
            size = MAGNITUDES[word]
            if size == 100 or size == 12:
                current = (current or 1) * size
            else:
                total, current = total + (current or 1) * size, 0.0
            last = size
        elif word in _SMALL or word in _TENS:
            value = float(_SMALL.get(word, _TENS.get(word, 0)))
            if last <= 19 or (last < 100 and value >= 10):
                return None
            current, last = current + value, value
    return total + current


def _han_value(run: str) -> float:
    total = section = digit = 0
    for character in run:
        if character in _HAN_DIGITS:
            digit = _HAN_DIGITS[character]
        elif character in _HAN_STEPS:
            section, digit = section + (digit or 1) * _HAN_STEPS[character], 0
        else:
            size = 10**4 if character == "万" else 10**8
            total, section, digit = total + ((section + digit) or 1) * size, 0, 0
    return float(total + section + digit)
