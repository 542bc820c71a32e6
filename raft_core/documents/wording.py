"""What a text says, by its words: what an answer takes from a passage, whom a question names."""

from __future__ import annotations

import re
from collections.abc import Iterable

from raft_core.facts.names import unsaid
from raft_core.facts.negation import flipped
from raft_core.facts.numbers import missing, numbers
from raft_core.facts.text import is_english, words

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

DENIALS = frozenset(
    "not no never none nobody nothing nowhere neither nor without cannot unable lacks".split()
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


def added_facts(answer: str, passage: str, question: str) -> list[str]:
    """What an answer states that neither passage nor question does: names, numbers, a denial.

    The fact guard's rules: capitals mean names, and words deny, in English only. A first `no` that
    answers the question is no denial of its own.
    """
    there = f"{passage}\n{question}"
    english = is_english(f"{there} {answer}")
    added = unsaid(answer, there, english=english)
    known = (*numbers(passage), *numbers(question))
    added += [number.text for number in missing(numbers(answer), known)]
    if english and (
        flipped(passage, answer, freely=False) or (_denies(answer) and not _denies(there))
    ):
        added.append("a denial")
    return added


def _denies(text: str) -> bool:
    said = words(text)
    return any(w in DENIALS or w.endswith("n't") for w in said[said[:1] == ["no"] :])


def overlap(one: Iterable[str], other: Iterable[str]) -> float:
    """Jaccard: shared words by all words; 0 where there is none."""
    first, second = set(one), set(other)
    return len(first & second) / len(first | second) if first | second else 0.0
