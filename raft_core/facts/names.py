"""Find names: capitalised words inside a sentence, acronyms, and codes such as T4 or HIF1A.

Names are compared with all words of the other text, so that case never matters. Capitals mean names
in English only; codes are read in any language.
"""

from __future__ import annotations

import re
from functools import lru_cache

from raft_core.facts.dates import dates
from raft_core.facts.number_words import number_words
from raft_core.facts.text import blanked, plain, statements, stem, words

_CODE = re.compile(r"(?<![A-Za-z0-9])(?!v\d+\.\d)(?=[A-Za-z0-9]*[A-Za-z]\d)[A-Za-z][A-Za-z0-9]*")
_WORD = re.compile(r"(?<!\w)[^\W\d_]+(?:'[^\W\d_]+)?(?![\w])")
_LONG_PAIR = re.compile(r"\b([^\W\d_])[^\W\d_]{4,}[ -](?=([^\W\d_])[^\W\d_]{4,}\b)")
_LETTERS_OF_NAMES = frozenset("BCDEFGHK")  # hepatitis B, vitamin K
_ROMAN = re.compile(r"[IVX]+")
# Words that are capitalised by habit, or that start a sentence after a quote or a colon.
_NO_NAMES = frozenset(
    "i a an the and or of in on at to for it its this that these those he she they we you his her "
    "their our there here no not yes if so as by from with when while where what who why how "
    "however therefore thus hence but because although then also first second finally conclusion "
    "results result table figure fig section chapter appendix total sure ok okay pm am vs eg ie "
    "etc mr mrs ms dr prof each all both some any let given since after before once step "
    "celsius fahrenheit usd eur gbp ci sd or rr hr answer question note".split()
)
_PEOPLE_AND_PLACES = ("ese", "ish", "ian", "ean", "an", "n", "ic", "ey", "y", "a", "e", "s", "")


def names(text: str, *, english: bool = True) -> dict[str, str]:
    """Return casefolded name -> the name as written; codes alone where the text is not English."""
    text = plain(text)
    text = blanked(text, [(d.start, d.end) for d in dates(text) if d.sure])  # the months in them
    found = {match[0].casefold(): match[0] for match in _CODE.finditer(text)}
    if not english:
        return found
    for statement in statements(text):
        said = list(_WORD.finditer(statement))
        capitals = [m for m in said if m[0][0].isupper()]
        if len(said) > 3 and len(capitals) > 0.6 * len(said):  # a heading, or all in capitals
            continue
        for position, match in enumerate(said):
            word = re.sub(r"'s$", "", match[0])
            before = statement[max(0, match.start() - 20) : match.start()]
            initial = statement[match.end() : match.end() + 1] == "."
            if _is_name(word, position, before, initial):
                found.setdefault(word.casefold(), word)
    return found


def _is_name(word: str, position: int, before: str, initial: bool) -> bool:
    if word in _LETTERS_OF_NAMES and (named := re.search(r"[^\W\d_]{4,} $", before)):
        return not initial or named[0].islower()  # John F. Kennedy
    if len(word) < 2 or word.casefold() in _NO_NAMES or _ROMAN.fullmatch(word):
        return False
    acronym = sum(c.isupper() for c in word) >= 2
    starts = position == 0 or re.search(r"[:\"(>.!?•*-]\s*$", before[-4:]) is not None
    return acronym or (word[0].isupper() and not starts)


def unsaid(text: str, there: str, *, english: bool = True) -> list[str]:
    """Return the names of `text` that `there` does not say.

    A name counts as said by its word, its people (`Turkish` for Turkey), spelled out or
    abbreviated.
    """
    there = plain(there)
    said = set(words(there)) | {match[0].casefold() for match in _CODE.finditer(there)}
    said |= {part for word in said for part in word.split("'")}
    stems = {stem(word) for word in said}
    known = said | _abbreviated(plain(text), there)
    beginnings: dict[str, list[str]] = {}
    for word in said:
        beginnings.setdefault(word[:4], []).append(word)
    return [
        name
        for key, name in names(text, english=english).items()
        if not (
            key in known
            or stem(key) in stems
            or _is_number_word(key)
            or _spelled_out(name, there)
            or any(_related(key, word) for word in beginnings.get(key[:4], ()))
        )
    ]


def _related(one: str, other: str) -> bool:
    """Return whether two words share a stem up to endings of people: Turkey and Turkish."""
    shared = 0
    while shared < min(len(one), len(other)) and one[shared] == other[shared]:
        shared += 1
    rest = (one[shared:], other[shared:])
    return shared >= 4 and all(ending in _PEOPLE_AND_PLACES for ending in rest)


def _long_words(text: str) -> list[str]:
    """Return the words in order, without those that acronyms leave out."""
    return [w for w in re.findall(r"[^\W\d_]+", text) if w.casefold() not in ("of", "the", "and")]


def _spelled_out(name: str, text: str) -> bool:
    """Return whether a text spells an acronym out: `magnetic resonance imaging` for `MRI`."""
    if not name.isalpha():
        return False
    letters = "".join(c.casefold() for c in name if c.isupper())
    if len(letters) == 2:  # any two words may happen to fit: they must be long, and side by side
        return letters in _pairs_of_long_words(text)
    return len(letters) > 2 and letters in _initials(text)


@lru_cache(maxsize=16)
def _pairs_of_long_words(text: str) -> frozenset[str]:
    return frozenset((m[1] + m[2]).casefold() for m in _LONG_PAIR.finditer(text))


@lru_cache(maxsize=16)
def _initials(text: str) -> str:
    return "".join(word[0].casefold() for word in _long_words(text))


def _abbreviated(text: str, there: str) -> set[str]:
    """Return the words that the other text abbreviates, such as `world health organization`."""
    spelled, initials = _long_words(text), _initials(text)
    found: set[str] = set()
    for acronym in {w for w in _long_words(there) if len(w) >= 2 and w.isupper()}:
        start = initials.find(acronym.casefold())
        if start >= 0:
            found |= {w.casefold() for w in spelled[start : start + len(acronym)]}
    return found


def _is_number_word(word: str) -> bool:
    return any(number.firm for number in number_words(word))
