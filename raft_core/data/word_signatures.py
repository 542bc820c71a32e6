"""Rule out pairs of texts that share too few words, by a few bits a text.

Each word of a set lights one of `BITS` lights. A light that is on in one signature alone comes from
a word that is in one set alone, so the lights that differ are never more than the words that do: a
pair that is turned away shares too little for certain, and what is let through is to be checked
word by word. Templated questions are near each other in vector space by the million; nearly all of
these pairs end here.

Array names end in a legend: N texts, W words of all texts, C candidate pairs, L columns of 64
lights.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Set
from typing import Any

import numpy as np

from raft_core.data.vector_index import Ints

COLUMNS = 8
BITS = 64 * COLUMNS


class WordSignatures:
    """Signatures of sets of words; `least_shared` is the Jaccard index that is required."""

    def __init__(self, texts: Iterable[Set[str]], least_shared: float) -> None:
        numbers: dict[str, int] = {}
        sizes, words = array("q"), array("q")
        for text in texts:
            sizes.append(len(text))
            words.extend(numbers.setdefault(word, len(numbers)) for word in sorted(text))
        self._size_N = np.array(sizes, dtype=np.int64)
        text_W = np.repeat(np.arange(len(sizes)), self._size_N)
        light_W = np.array(words, dtype=np.int64) % BITS
        bit_W = np.uint64(1) << (light_W % 64).astype(np.uint64)
        self._lights_NL = np.zeros((len(sizes), COLUMNS), dtype=np.uint64)
        np.bitwise_or.at(self._lights_NL, (text_W, light_W // 64), bit_W)
        self._coarse_N: Any = np.bitwise_or.reduce(self._lights_NL, axis=1)
        # Sets of a and b words with d in one alone share (a + b - d) / (a + b + d) of them.
        self._apart = (1 - least_shared) / (1 + least_shared)

    def may_share(self, first_C: Ints, second_C: Ints) -> Ints:
        """Return the places of the pairs that may share enough words, in order."""
        most_C = self._apart * (self._size_N[first_C] + self._size_N[second_C]) + 1e-6
        coarse_C = np.bitwise_count(self._coarse_N[first_C] ^ self._coarse_N[second_C])
        left = np.flatnonzero(coarse_C <= most_C)
        fine_CL = self._lights_NL[first_C[left]] ^ self._lights_NL[second_C[left]]
        return left[np.bitwise_count(fine_CL).sum(axis=1) <= most_C[left]]
