"""Documents of the mini world: files on a domain's names, in prose, with several facts each.

Everything is a function of its arguments, and `VERSION` rises whenever a document changes. Beside
its facts a file says who is *not* known to have something, which no question can be answered from,
and ends in a line that all files share.
"""

from __future__ import annotations

import random
from typing import Any

from raft_core.mini.lexicon import DOMAIN_NAMES, Fact
from raft_core.mini.styles import raw
from raft_core.mini.world import domain_facts

VERSION = 1
NAME = "documents"
DEFAULT_DOMAIN = "law"
FOOTER = "All notes of this file are kept in the old hall and may be read there."
GAPS = (
    "It was never written down which {a} should go with {s}.",
    "Nobody in the hall could say what the {a} of {s} might be.",
    "The page that told of the {a} of {s} has been lost.",
)

Row = dict[str, Any]


def documents(domain: str = DEFAULT_DOMAIN, seed: int = 0) -> list[Row]:
    """Return one file for each pair of a domain's names, with all facts of both.

    Raises:
        ValueError: there is no such domain.
    """
    facts = domain_facts(domain, seed)
    rng = random.Random(f"{domain} documents {seed}")
    names = DOMAIN_NAMES[domain]
    return [
        {
            "id": f"{domain}-file-{number:02d}",
            "title": f"File {number} on {first} and {second}",
            "source": f"mini:{NAME}/{domain}",
            "text": _file(rng, domain, [f for f in facts if f.name in (first, second)], names),
        }
        for number, (first, second) in enumerate(zip(names[::2], names[1::2], strict=True))
    ]


def _file(rng: random.Random, domain: str, facts: list[Fact], names: tuple[str, ...]) -> str:
    """Write a paragraph for each fact, one for what is not known, and the footer."""
    told = [raw(rng, domain, fact) for fact in facts]
    stranger = rng.choice([name for name in names if name not in {f.name for f in facts}])
    told.append(rng.choice(GAPS).format(a=rng.choice(facts).attribute, s=stranger))
    rng.shuffle(told)
    return "\n\n".join([*told, FOOTER])


def load(name: str) -> list[Row]:
    """Return the documents of a source `mini:NAME`: documents, or documents/DOMAIN[@SEED].

    Raises:
        ValueError: there is no such name.
    """
    kind, _, rest = name.partition("/")
    if kind != NAME:
        raise ValueError(f"the mini world has '{NAME}' or '{NAME}/DOMAIN', no '{name}'")
    domain, _, seed = rest.partition("@")
    if seed and not seed.isdigit():
        raise ValueError(f"mini world '{name}': the seed after '@' must be a whole number")
    return documents(domain or DEFAULT_DOMAIN, int(seed or 0))
