"""What signatures let through: every pair that shares enough words, and few others."""

from __future__ import annotations

import random
from itertools import combinations

import numpy as np
import pytest

from raft_core.data.word_signatures import BITS, WordSignatures


def jaccard(one: frozenset[str], other: frozenset[str]) -> float:
    return len(one & other) / len(one | other)


def all_pairs(count: int) -> tuple[np.ndarray, np.ndarray]:
    first, second = zip(*combinations(range(count), 2), strict=True)
    return np.array(first), np.array(second)


@pytest.mark.parametrize("least", [0.2, 0.5, 0.9, 1.0])
def test_may_share_never_turns_a_pair_away_that_shares_enough(least: float) -> None:
    # Words enough for every light to stand for several of them, and rows a few words apart.
    rng, texts = random.Random(1), []
    for _ in range(60):
        text = {f"w{rng.randrange(3 * BITS)}" for _ in range(rng.randint(1, 40))}
        for changes in range(4):
            changed = set(rng.sample(sorted(text), max(1, len(text) - changes)))
            texts.append(frozenset(changed | {f"w{rng.randrange(3 * BITS)}"}))
    texts += texts[::9]
    first, second = all_pairs(len(texts))
    possible = set(WordSignatures(texts, least).may_share(first, second).tolist())
    shared = [jaccard(texts[i], texts[j]) >= least for i, j in zip(first, second, strict=True)]
    wanted = set(np.flatnonzero(shared).tolist())
    assert wanted
    assert wanted <= possible
    assert least < 0.9 or len(possible) < len(first) / 20


def test_may_share_of_templated_texts_about_different_things_is_nearly_nothing() -> None:
    texts = [
        frozenset(f"what is the attribute{n % 30} of name{n // 30} under the act".split())
        for n in range(300)
    ]
    first, second = all_pairs(len(texts))
    assert len(WordSignatures(texts, 0.9).may_share(first, second)) < len(first) / 50


def test_may_share_of_no_texts_and_of_empty_ones() -> None:
    none = np.zeros(0, dtype=np.int64)
    assert not len(WordSignatures([], 0.9).may_share(none, none))
    empty = WordSignatures([frozenset(), frozenset()], 0.9)
    assert empty.may_share(np.array([0]), np.array([1])).tolist() == [0]
