"""The closed lexicon of the mini world: syllables, values, names and attributes.

It is closed because a model of a million parameters learns to copy words from its context only
when they are made of few pieces: 64 syllables, each one token, two to a word. It does not know
which facts hold; `world` pairs the words up.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

DOMAINS = ("business", "law", "culture", "science", "web")

GENERAL_ATTRIBUTES = ("color", "home", "food", "tool", "song", "friend", "game", "garden")
DOMAIN_ATTRIBUTES = {
    "business": ("product", "market", "supplier"),
    "law": ("court", "statute", "penalty"),
    "culture": ("festival", "dialect", "painter"),
    "science": ("enzyme", "mineral", "orbit"),
    "web": ("host", "theme", "browser"),
}
ATTRIBUTES = GENERAL_ATTRIBUTES + tuple(a for d in DOMAINS for a in DOMAIN_ATTRIBUTES[d])

GENERAL_NAME_COUNT = 60
DOMAIN_NAME_COUNT = 20
SPARE_NAME_COUNT = 40
RUDE = frozenset({"dik", "tit", "bum", "kum", "suk", "sak", "kok", "tut", "but", "nut", "tat"})


@dataclass(frozen=True, slots=True)
class Fact:
    """One fact: the attribute of what bears the name has this value."""

    name: str
    attribute: str
    value: str


def _syllables(count: int = 64) -> tuple[str, ...]:
    every = [c + v + f for c in "bdfgklmnprstvz" for v in "aeiou" for f in "klmnrst"]
    return tuple(sorted(random.Random(1).sample([s for s in every if s not in RUDE], count)))


def _values() -> tuple[str, ...]:
    """Make the values of two syllables each; every syllable starts exactly two values."""
    rng = random.Random(2)
    words = []
    for first in SYLLABLES:
        words += [first + second for second in rng.sample(SYLLABLES, 2)]
    return tuple(words)


def _names() -> tuple[str, ...]:
    """Make the names of two syllables, capitalised; no name is a value with a capital."""
    rng = random.Random(3)
    taken = set(VALUES)
    wanted = GENERAL_NAME_COUNT + len(DOMAINS) * DOMAIN_NAME_COUNT + SPARE_NAME_COUNT
    names: list[str] = []
    while len(names) < wanted:
        word = SYLLABLES[len(names) % len(SYLLABLES)] + rng.choice(SYLLABLES)
        if word not in taken:
            taken.add(word)
            names.append(word.capitalize())
    rng.shuffle(names)
    return tuple(names)


SYLLABLES = _syllables()
VALUES = _values()
NAMES = _names()
GENERAL_NAMES = NAMES[:GENERAL_NAME_COUNT]
DOMAIN_NAMES = {
    domain: NAMES[GENERAL_NAME_COUNT + i * DOMAIN_NAME_COUNT :][:DOMAIN_NAME_COUNT]
    for i, domain in enumerate(DOMAINS)
}
SPARE_NAMES = NAMES[-SPARE_NAME_COUNT:]
DOMAIN_OF_NAME = {name: domain for domain, names in DOMAIN_NAMES.items() for name in names}


def open_attributes(name: str) -> tuple[str, ...]:
    """Return the attributes that the base may be taught with this name.

    A domain's names never meet the domain's own attributes in the base's training, so that no
    domain fact can be among its targets, whatever values a seed gives them.
    """
    own = DOMAIN_ATTRIBUTES.get(DOMAIN_OF_NAME.get(name, ""), ())
    return tuple(a for a in ATTRIBUTES if a not in own)
