"""Make any number of rows like those of the mini world's law domain.

The world itself has 60 facts a domain. Here the names are all pairs of its syllables, so that no
two rows ask the same question in the same words, and none is dropped as a near-duplicate.
"""

from __future__ import annotations

import itertools
import random
from pathlib import Path
from typing import Any

from raft_core.data.records import write_jsonl
from raft_core.mini.lexicon import DOMAIN_ATTRIBUTES, SYLLABLES, VALUES, Fact
from raft_core.mini.styles import DOMAIN_FRAMES, question, raw

DOMAIN = "law"
HELD_OUT = 0.05  # of the rows, for validation and for test each


def rows_of(count: int, seed: int = 0) -> list[dict[str, Any]]:
    """Return so many seeded rows; a smaller count gives the first of a larger one.

    Raises:
        ValueError: more than the syllables give.
    """
    rng = random.Random(f"mini rows {seed}")
    pairs = ["".join(pair).capitalize() for pair in itertools.product(SYLLABLES, SYLLABLES)]
    rng.shuffle(pairs)
    asked = itertools.product(pairs, DOMAIN_ATTRIBUTES[DOMAIN], DOMAIN_FRAMES["train"])
    rows = []
    for number, (name, attribute, frame) in enumerate(itertools.islice(asked, count)):
        fact = Fact(name, attribute, rng.choice(VALUES))
        rows.append(
            {
                "id": f"row-{number:06d}",
                "question": question(frame, fact),
                "answer": raw(rng, DOMAIN, fact),
                "expected": [fact.value],
                "split": _split(number),
            }
        )
    if len(rows) < count:
        raise ValueError(f"{count} rows: there are {len(rows)}")
    return rows


def write_rows(path: Path, count: int) -> Path:
    write_jsonl(path, rows_of(count))
    return path


def _split(number: int) -> str:
    every = round(1 / HELD_OUT)
    return {0: "test", 1: "validation"}.get(number % every, "train")
