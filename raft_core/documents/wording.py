"""What a text says, by its words: what an answer takes from a passage, whom a question names."""

from __future__ import annotations

import re
from collections.abc import Iterable

WORD = re.compile(r"\w+")
# English words without content of their own; those of other languages count as content, which
# makes two answers agree less often, never more.
FUNCTION_WORDS = frozenset(
    (
        "a an the this that these those there here it its he she they we you i his her their our "
        "your my me him them us who whom whose which what when where why how is are was were be "
        "been being am has have had do does did will would shall should can could may might must "
        "of in on at by to from with without for as into onto over under about against between "
        "through during before after above below and or but nor so if then than because while not "
        "no yes also too very such both each any some all more most other only own same"
    ).split()
)


def content_words(text: str) -> list[str]:
    """Its words in lower case and in order, function words left out."""
    return [word for word in map(str.casefold, WORD.findall(text)) if word not in FUNCTION_WORDS]


def taken_words(answer: str, passage: str, question: str) -> list[str]:
    """The content words that an answer takes from the passage and that the question lacks."""
    there = set(content_words(passage)) - set(content_words(question))
    return [word for word in content_words(answer) if word in there]


def names(question: str) -> set[str]:
    """Words with a capital after the first word, and words with a digit, in lower case.

    Where every word has a capital, none of them is a name.
    """
    words = WORD.findall(question)
    capitals = [word for word in words[1:] if word[0].isupper()]
    if len(capitals) == len(words) - 1 > 1:
        capitals = []
    digits = [word for word in words if any(character.isdigit() for character in word)]
    return {word.casefold() for word in (*capitals, *digits)}


def lacking_names(question: str, text: str) -> set[str]:
    """Names of the question that the text does not hold."""
    return names(question) - {word.casefold() for word in WORD.findall(text)}


def overlap(one: Iterable[str], other: Iterable[str]) -> float:
    """Jaccard: shared words by all words; 0 where there is none."""
    first, second = set(one), set(other)
    return len(first & second) / len(first | second) if first | second else 0.0
