"""The numbers of a text, with their units, and what two texts do not share of them.

Values count, not how they are written: $1,000 = 1000.00 dollars, 50% = fifty percent, .5 = 1/2,
3-fold = threefold, 1 km = 1000 m, 12 March 2020 = 2020-03-12.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import pairwise
from zlib import crc32

from raft_core.facts.dates import dates
from raft_core.facts.number_words import MAGNITUDES, number_words
from raft_core.facts.text import blanked, plain
from raft_core.facts.units import EURO, FOLD, PERCENT, Unit, unit_of

DAY_OF_YEAR = Unit("day of the year", 1)
VERSION = Unit("version or address", 1)  # 1.2.3 by its checksum: equal or not

_CODE = re.compile(r"(?<![A-Za-z0-9])[A-Za-z]+\d[A-Za-z0-9]*")
_VERSION = re.compile(r"(?<![A-Za-z0-9.,])(?<!\d)v?\d+(?:\.\d+){2,}(?![\w%]|,\d)", re.I)
_THOUSANDS = re.compile(r"\d{1,3}(?:\.\d{3})+")
_CLOCK = re.compile(r"(?<![\d.,])([01]?\d|2[0-3])\.([0-5]\d)(?=\s?(?:[ap]\.?\s?m\b|uhr\b))", re.I)
_HALF_DAY = re.compile(r"\s?([ap])\.?m\b\.?", re.I)
_DIGITS = (
    r"\d{1,3}(?:\.\d{3})+,\d+|\d{1,3}(?:'\d{3})+(?!\d)(?:\.\d+)?|"
    r"\d{1,3}(?:,\d{2,3})*,\d{3}(?!\d)(?:\.\d+)?|\d{1,3}(?:\.\d{3}){2,}(?!\d)"
    r"|\d{1,3}(?: \d{3})+(?!\d)(?:\.\d+)?|\d+,\d{1,2}(?!\d)|\d+(?:\.\d+)?|\.\d+"
)
_TIMES_TEN = (
    r"(?:\s*[x×·*]\s*10\s*(?:\^\s*\(?|\*\*\s*\(?|\()\s*(?P<power>[+-]?\d+)\)?"
    r"|[eE](?P<e>[+-]?\d+)"
    r"|(?<=10)(?<![\d.,]10)(?:\^\(?|\*\*\(?|\((?=[+-]))(?P<alone>[+-]?\d+)\)?)"
)
_NUMBER = re.compile(
    rf"(?P<currency>[$€£¥₹]\s?)?(?<![A-Za-z0-9_])(?<!\d)(?<!\d[.,])(?P<digits>{_DIGITS})(?:{_TIMES_TEN})?"
    rf"(?:\s*/\s*(?P<below>\d+)(?![\d.,/]{{0,40}}\d))?"
    rf"(?:[\s-]?(?P<magnitude>{'|'.join(sorted(MAGNITUDES, key=len, reverse=True))})"
    rf"(?![A-Za-z]))?",
    re.I,
)
# Neither a bullet (`- 5 mg`), nor a dash (`5 mm - 10 mm`), nor an operator (`9 minus 5`).
_SIGN = re.compile(r"(?:^|\n|[\s(<>,:])(?<![\d%]\s)-$|[(=<>]\s?-\s?$|(?<![\d%])\s?\bminus\s$")
_UNIT = re.compile(r"(?P<space>[\s-]?)(?:(?P<word>%|°\s?[CF]?|[A-Za-zμ]+(?:/h)?|[$€£¥₹])|)", re.I)
_CENT = re.compile(r"\s(?:cent|cento|ciento)\b", re.I)
_DEGREES = re.compile(r"[\s-]?(?:degrees?|deg\.?)\s(C\b|F\b|Celsius|Fahrenheit)", re.I)
_SHARED = re.compile(r",?\s*(?:and|or|and/or|to)|-|/|±|\+/-|through|until|vs\.?|versus", re.I)
_OF_MAGNITUDE = re.compile(
    rf"(?:{'|'.join(m for m in MAGNITUDES if m not in ('hundred', 'dozen', 'k', '万', '亿'))})\b",
    re.I,
)
_ORDERED = re.compile(r"\s*(?::|-|to|/|-to-|through|until|down to|up to)\s*", re.I)


@dataclass(frozen=True, slots=True)
class Number:
    """A number as the text has it. Any of `values` is its value, where one cannot tell.

    `parts` are numbers that say the same together: 12 and 30 for 12/30. A number that is not
    `firm` may be put otherwise. A `shared` unit stands after another number (5 and 10 km).
    """

    text: str
    start: int
    end: int
    values: tuple[float, ...]
    unit: Unit | None = None
    firm: bool = True
    shared: bool = False
    parts: tuple[float, ...] = field(default=())

    @property
    def value(self) -> float:
        return self.values[0]


@lru_cache(maxsize=4096)
def numbers(text: str) -> tuple[Number, ...]:
    """All numbers, in order; those inside of names such as T4 or user721 are names."""
    text = plain(text)
    found: list[Number] = []
    read: list[tuple[int, int]] = []
    taken = bytearray(len(text))
    for date in dates(text):
        span = date.start, date.end
        again = bool(read) and read[-1] == span  # the other day of `5-7 May`
        if not again and any(taken[date.start : date.end]):
            continue
        said = text[date.start : date.end]
        values, parts = tuple(map(float, date.days)), tuple(map(float, date.day))
        found.append(Number(said, *span, values, DAY_OF_YEAR, firm=date.sure, parts=parts))
        if date.sure and not again:
            if date.year:
                found.append(Number(str(date.year), *span, (float(date.year),)))
            taken[date.start : date.end] = b"1" * (date.end - date.start)
            read.append(span)
    versions = [m for m in _VERSION.finditer(blanked(text, read)) if not _THOUSANDS.fullmatch(m[0])]
    for version in versions:
        said = version[0].lower().lstrip("v")
        found.append(Number(version[0], *version.span(), (float(crc32(said.encode())),), VERSION))
    rest = blanked(text, [*read, *(version.span() for version in versions)])
    rest = _CLOCK.sub(r"\1:\2", rest)
    rest = blanked(rest, [code.span() for code in _CODE.finditer(rest)])
    for number in (*_in_digits(rest), *_in_words(rest)):
        found.append(number)
    return tuple(_with_shared_units(sorted(found, key=lambda n: (n.start, n.end)), text))


def _in_digits(text: str) -> Iterator[Number]:
    for match in _NUMBER.finditer(text):
        value = _value(match["digits"])
        if power := match["power"] or match["e"]:
            value *= 10.0 ** _exponent(power)
        if match["alone"]:
            value = 10.0 ** _exponent(match["alone"])
        parts: tuple[float, ...] = ()
        if match["below"]:
            below = float(match["below"])
            parts, value = (value, below), value / below if below else math.inf
        if match["magnitude"]:
            value *= MAGNITUDES[match["magnitude"].lower()]
        if _SIGN.search(text, max(0, match.start() - 8), match.start()):
            value = -value
        unit, end = _unit_after(text, match.end())
        if match["currency"]:
            unit = unit_of(match["currency"].strip())
        values: tuple[float, ...] = (value,)
        if unit == EURO and not match["magnitude"] and _THOUSANDS.fullmatch(match["digits"]):
            values = tuple(dict.fromkeys((value, math.copysign(_joined(match["digits"]), value))))
        said = text[match.start() : end].strip()
        yield Number(said, match.start(), end, values, unit, parts=parts)


def _exponent(written: str) -> int:
    """An exponent within what a float holds; Python reads no number of more than 4,300 digits."""
    digits = written.lstrip("+-").lstrip("0")
    size = int(digits or "0") if len(digits) <= 3 else 300
    return -min(size, 300) if written.startswith("-") else min(size, 300)


def _joined(digits: str) -> float:
    return float(digits.replace(".", ""))


def _value(digits: str) -> float:
    digits = digits.replace("'", "")
    if re.fullmatch(r"\d{1,3}(?:\.\d{3})+,\d+", digits):  # 1.250,50
        return float(digits.replace(".", "").replace(",", "."))
    if re.fullmatch(r"\d+,\d{1,2}", digits):
        return float(digits.replace(",", "."))
    if digits.count(".") > 1:
        return float(digits.replace(".", ""))
    return float(digits.replace(",", "").replace(" ", ""))


def _in_words(text: str) -> Iterator[Number]:
    for word in number_words(text):
        unit, end = (word.unit, word.end) if word.unit else _unit_after(text, word.end)
        said = text[word.start : end].strip()
        yield Number(said, word.start, end, (word.value,), unit, word.firm)


def _unit_after(text: str, end: int) -> tuple[Unit | None, int]:
    """The unit behind a number that ends here, and where it ends."""
    if half := _HALF_DAY.match(text, end):
        return unit_of(f"{half[1]}.m."), half.end()
    match = _UNIT.match(text, end)
    if match is None or not match["word"]:
        return None, end
    word, attached = match["word"], not match["space"]
    if word.casefold() == "x" and attached and not re.match(r"\s*[\d(]", text[match.end() :]):
        return FOLD, match.end()
    if word.casefold() in ("per", "pour", "por") and (cent := _CENT.match(text, match.end())):
        return PERCENT, cent.end()
    if word in ("s", "S") and attached:  # the 1990s
        return None, end
    if degrees := _DEGREES.match(text, match.start()):
        return unit_of(f"°{degrees[1][0]}"), degrees.end()
    unit = unit_of(re.sub(r"\s", "", word))
    return (unit, match.end()) if unit else (None, end)


def _with_shared_units(found: Sequence[Number], text: str) -> list[Number]:
    """In `5 and 10 km` also the five is in km, and in `15 to 18 million` it may be in millions."""
    out = list(found)
    for i in range(len(out) - 2, -1, -1):
        this, after = out[i], out[i + 1]
        between = text[this.end : after.start].strip()
        joined = _SHARED.fullmatch(between) or (between == "," and after.shared)
        if match := _OF_MAGNITUDE.search(after.text) if joined and not this.parts else None:
            size = MAGNITUDES[match[0].lower()]
            out[i] = this = replace(this, values=(*this.values, *(v * size for v in this.values)))
        measured = after.unit is not None and after.unit not in (DAY_OF_YEAR, FOLD)
        if this.unit is None and this.firm and measured and joined:
            out[i] = replace(this, unit=after.unit, shared=True)
    return out


def same_number(one: Number, other: Number) -> bool:
    """Equal value, and no units that contradict each other; percents are percents on both sides."""
    if one.unit == other.unit == DAY_OF_YEAR and len(one.values) == len(other.values) == 2:
        return one.values == other.values  # 3/5/2024 is not 5/3/2024, whichever it is
    if one.unit and other.unit and one.unit.measures == other.unit.measures:
        return any(
            _close(a * one.unit.factor, b * other.unit.factor)
            for a in one.values
            for b in other.values
        )
    if not any(_close(a, b) for a in one.values for b in other.values):
        return False
    if one.shared or other.shared or one.unit == other.unit:
        return True
    if not (one.firm and other.firm):  # "a single rule" is no month
        return one.unit is None and other.unit is None
    return None in (one.unit, other.unit) and PERCENT not in (one.unit, other.unit)


def _close(one: float, other: float) -> bool:
    return math.isclose(one, other, rel_tol=1e-9, abs_tol=1e-12)


def missing(wanted: Iterable[Number], there: Iterable[Number]) -> list[Number]:
    """The firm numbers that `there` does not have, each value once."""
    pool, lacking = NumberSet(), NumberSet()
    for number in there:
        for other in (number, *_parts(number), _as_month(number), _as_share(number)):
            if other is not None:
                pool.add(other)
    lost: list[Number] = []
    for number in wanted:
        if not number.firm or number in lacking:
            continue
        share, split = _as_share(number), _parts(number)
        if number in pool or (share is not None and share in pool):
            continue
        # A date is more than its day and its year; 12/30 is 12 and 30.
        if split and number.unit != DAY_OF_YEAR and all(part in pool for part in split):
            continue
        lacking.add(number)
        lost.append(number)
    return lost


class NumberSet:
    """Numbers by value; `in` asks whether one is the `same_number` as any of them."""

    def __init__(self, numbers: Iterable[Number] = ()) -> None:
        self._numbers: dict[str, dict[Number, None]] = {}
        for number in numbers:
            self.add(number)

    def add(self, number: Number) -> None:
        bare = replace(number, text="", start=0, end=0, parts=())
        for size in _sizes(number):
            self._numbers.setdefault(_rounded(size), {})[bare] = None

    def __contains__(self, number: Number) -> bool:
        # The tolerance of `_close` may reach into the next bucket.
        near = {_rounded(s * slack) for s in _sizes(number) for slack in (1 - 2e-9, 1, 1 + 2e-9)}
        return any(
            same_number(number, other) for size in near for other in self._numbers.get(size, ())
        )


def _sizes(number: Number) -> set[float]:
    """Its values as they stand, and in the first unit of their kind."""
    return {v * f for v in number.values for f in (1, number.unit.factor if number.unit else 1)}


def _rounded(size: float) -> str:
    return "0" if abs(size) <= 1e-12 else f"{size:.7e}"


def _parts(number: Number) -> list[Number]:
    """12 and 30 for 12/30; the day of a date, as a bare number."""
    return [replace(number, values=(part,), unit=None, parts=()) for part in number.parts]


def _as_month(number: Number) -> Number | None:
    """The month of a day."""
    if number.unit != DAY_OF_YEAR:
        return None
    return replace(number, values=tuple(v - v % 100 for v in number.values), parts=())


def _as_share(number: Number) -> Number | None:
    """20% as a fifth."""
    if number.unit != PERCENT or number.shared:
        return None
    return replace(number, values=tuple(v / 100 for v in number.values), unit=None, parts=())


def turned_around(reference: str, rewrite: str) -> list[str]:
    """Pairs such as `2:1` or `from 5 to 10` that the rewrite has in the other order only."""
    wanted, there = _pairs(reference), _pairs(rewrite)
    return [
        said
        for (a, b), said in wanted.items()
        if a != b and (b, a) in there and (a, b) not in there and (b, a) not in wanted
    ]


def _pairs(text: str) -> dict[tuple[float, float], str]:
    found = [n for n in numbers(text) if n.firm and n.unit != DAY_OF_YEAR]
    readable = plain(text)
    pairs = {(n.parts[0], n.parts[1]): n.text for n in found if len(n.parts) == 2}
    for one, other in pairwise(found):
        if _ORDERED.fullmatch(readable[one.end : other.start]):
            said = readable[one.start : other.end]
            pairs |= {(a, b): said for a in one.values for b in other.values}
    return pairs
