"""A text as the rules read it: one form of every character, statements, words, stems.

Rules about words know English. `is_english` tells whether they may speak; digits are read in any
language.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from functools import lru_cache

_SUPERSCRIPTS = "⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺"
_SUPERSCRIPT_RUN = re.compile(f"[{_SUPERSCRIPTS}]+")
_TO_PLAIN_DIGITS = str.maketrans(_SUPERSCRIPTS, "0123456789-+")
_FRACTION = re.compile("([½⅓⅔¼¾⅕⅖⅗⅘⅙⅚⅛⅜⅝⅞])")
_SAME = str.maketrans("‘’ʼ′“”−–—‑‒", "''''\"\"-----")

# Behind "p.m." or "vs." a statement goes on where a lower-case letter follows.
_SENTENCE_END = re.compile(
    r"\n+|(?<=[.!?])[\"')\]]*\s+(?![a-z])|(?<=[^\W_]{3}[.!?])\s+|[。！？]|;\s"
)
_CONTRAST = re.compile(r",?\s+\b(?:but|although|though|whereas|while|however|yet)\b,?\s*", re.I)

_ENGLISH = frozenset(
    "the of and with were are is was be been has have had this these those that which there from "
    "by it its he she they we you to for not did does do should could would can may might will all "
    "any some each both his her their about only than more most when if but what how who".split()
)
_ELSEWHERE = frozenset(
    "der das und ist nicht ein eine mit von zu den dem les des est pas une dans pour que el los "
    "las del en con por para una il della che di per sono não os uma het een niet och inte".split()
)


@lru_cache(maxsize=4096)
def plain(text: str) -> str:
    """One form of compatible characters: `10^-3` for `10⁻³`, `m2` for `m²`, ` 1/2 ` for `½`, `-`
    for every dash, one space for many.
    """
    raised = _SUPERSCRIPT_RUN.sub(lambda run: "^" + run[0].translate(_TO_PLAIN_DIGITS), text)
    units = re.sub(r"(?<=[A-Za-z])\^(?=[-+]?\d)", "", raised)
    apart = _FRACTION.sub(r" \1 ", units.translate(_SAME))
    return re.sub(r"[^\S\n]+", " ", unicodedata.normalize("NFKC", apart).replace("⁄", "/"))


def blanked(text: str, spans: Iterable[tuple[int, int]]) -> str:
    """The text with spaces in place of these spans."""
    parts, done = [], 0
    for start, end in sorted(spans):
        if end > done:
            start = max(start, done)
            parts += [text[done:start], " " * (end - start)]
            done = end
    return "".join([*parts, text[done:]])


def statements(text: str) -> list[str]:
    """Sentences and lines, none empty."""
    return [part.strip() for part in _SENTENCE_END.split(text) if part.strip()]


def clauses(text: str) -> list[str]:
    """Statements, apart also where one is held against another ("but", "whereas")."""
    parts = [part for statement in statements(text) for part in _CONTRAST.split(statement)]
    return [part for part in parts if part.strip()]


def words(text: str) -> list[str]:
    """Lower-case words in order; `don't` is one word."""
    return re.findall(r"[^\W_]+(?:'[^\W_]+)?", text.casefold())


def is_english(text: str) -> bool:
    """Whether more words are English function words than those of other languages."""
    said = words(text)
    return sum(w in _ENGLISH for w in said) > sum(w in _ELSEWHERE for w in said)


@lru_cache(maxsize=65536)
def stem(word: str) -> str:
    """A word without its ending: enough to find `differ` in `difference`."""
    for ending in _ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) >= 4:
            return word[: -len(ending)]
    return word


_ENDINGS = sorted(
    "s es ed ing ly e ence ences ance ances ent ently ant antly ation ations ion ions ment ments "
    "able ive al ally er ers ity ities ies ied y".split(),
    key=len,
    reverse=True,
)
