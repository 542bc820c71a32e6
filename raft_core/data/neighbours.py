"""Find neighbours among unit vectors: near-duplicates, contaminated rows, nearest references.

Below `exact_below` vectors all are compared with all. From there on an inverted file finds the
candidates (`vector_index.py`). Candidates of either kind are decided by one cosine of the original
vectors, in float64 and then rounded to float32: a pair's verdict depends neither on the rows beside
it nor on the number of threads, and an approximate search can only miss pairs. How many it misses
is measured against an exact search of a sample, and reported.

Array names end in a legend: N vectors, M references, D components, B rows of a block, S sampled
rows, P pairs, C candidates.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from raft_core.config.base import EXACT_BELOW
from raft_core.data.vector_index import Bools, Floats, Ints, VectorIndex, open_index

SAMPLE_ROWS = 2_000
BLOCK_ROWS = 1024
LEAST_BLOCK_ROWS = 16
MOST_CANDIDATES = 250_000  # per block; the next block is smaller if there were more
SPARE_NEIGHBOURS = 15  # the index orders near ties by a rough cosine
PAIRS_AT_ONCE = 16_384


@dataclass(slots=True)
class SearchReport:
    """How a search was made; an approximate one `found` so many of the sample's `true` hits."""

    kind: str
    vectors: int
    sampled_rows: int = 0
    true: int = 0
    found: int = 0

    @property
    def recall(self) -> float | None:
        """Recall on the sample: 1 for an exact search, None where there is nothing to find."""
        if self.kind == "exact":
            return 1.0
        return round(self.found / self.true, 6) if self.true else None

    def as_json(self) -> dict[str, Any]:
        """Return the fields and the recall, as plain JSON."""
        return {
            "kind": self.kind,
            "vectors": self.vectors,
            "sampled_rows": self.sampled_rows,
            "true": self.true,
            "found": self.found,
            "recall": self.recall,
        }


class NearPairs:
    """Pairs (i, j), i < j, of unit rows whose cosine is at least `threshold`, by j, then i.

    A row that is marked in `skip`, before or while the pairs are iterated, is the i of no further
    pair: a thousand copies of one row then cost a thousand pairs, not half a million. `report` is
    complete when the iteration has ended.

    `possible` selects, among candidates (i, j), the places of those that can be of use; all others
    are left out before their cosine is taken, from the pairs and from the recall.
    """

    def __init__(
        self,
        vectors_ND: Floats,
        threshold: float,
        *,
        exact_below: int = EXACT_BELOW,
        threads: int = 1,
        possible: Callable[[Ints, Ints], Ints] | None = None,
    ) -> None:
        self._vectors_ND, self._threshold = vectors_ND, threshold
        self._possible = possible
        self._index = open_index(vectors_ND, exact=len(vectors_ND) < exact_below, threads=threads)
        self.skip: Bools = np.zeros(len(vectors_ND), dtype=bool)
        self.report = SearchReport(self._index.kind, len(vectors_ND))

    def __iter__(self) -> Iterator[tuple[int, int]]:
        count, start, size = len(self._vectors_ND), 0, BLOCK_ROWS
        sample = sample_rows(count)
        in_sample = np.zeros(count, dtype=bool)
        in_sample[sample] = True
        of_sample: list[Ints] = []
        while start < count:
            pairs_P2, candidates = self._block(start, min(start + size, count))
            of_sample.append(pairs_P2[in_sample[pairs_P2[:, 1]]])
            for first, second in pairs_P2.tolist():
                if not self.skip[first]:
                    yield first, second
            self._index.add(np.flatnonzero(~self.skip[start : start + size]))
            start += size
            size = _next_size(size, candidates)
        if self._index.kind != "exact":
            self._measure(sample, np.concatenate(of_sample))

    def _block(self, start: int, end: int) -> tuple[Ints, int]:
        """Return the pairs whose j is in a block, and how many candidates there were."""
        block_BD = self._vectors_ND[start:end]
        self._index.place(block_BD, start)
        rows_C, found_C = self._index.near(self._threshold)
        # The block is not in the index yet, so its rows are compared with each other directly.
        inside_BB = np.tril(block_BD @ block_BD.T, -1)
        later_C, earlier_C = np.nonzero(inside_BB >= self._threshold - self._index.exact_slack)
        second_C = np.concatenate([rows_C, later_C + start])
        first_C = np.concatenate([found_C, earlier_C + start])
        pairs_P2 = self._near(first_C, second_C)
        return pairs_P2[np.lexsort((pairs_P2[:, 0], pairs_P2[:, 1]))], len(first_C)

    def _near(self, first_C: Ints, second_C: Ints) -> Ints:
        """Return the useful candidates whose cosine reaches the threshold, [P, 2]."""
        if self._possible is not None:
            places = self._possible(first_C, second_C)
            first_C, second_C = first_C[places], second_C[places]
        cosine_C = cosines(self._vectors_ND, first_C, self._vectors_ND, second_C)
        near_C = cosine_C >= np.float32(self._threshold)
        return np.stack([first_C[near_C], second_C[near_C]], axis=1)

    def _measure(self, sample: Ints, of_sample: Ints) -> None:
        count = len(self._vectors_ND)
        known = of_sample[~self.skip[of_sample[:, 0]]]
        floor = np.full(len(sample), self._threshold, dtype=np.float32)
        report = self.report
        report.sampled_rows = len(sample)
        for which_C, rows_C in exact_candidates(self._vectors_ND[sample], floor, self._vectors_ND):
            queries_C = sample[which_C]
            wanted = (rows_C < queries_C) & ~self.skip[rows_C]
            pairs_P2 = self._near(rows_C[wanted], queries_C[wanted])
            report.true += len(pairs_P2)
            report.found += int(np.isin(pairs_P2 @ (1, count), known @ (1, count)).sum())


def near_held_out(
    vectors_ND: Floats, held_out: int, threshold: float, **options: Any
) -> tuple[Bools, SearchReport]:
    """Return which rows [N - held_out] after the first `held_out` are near one, and the report."""
    pairs = NearPairs(vectors_ND, threshold, **options)
    pairs.skip[held_out:] = True
    near = np.zeros(len(vectors_ND), dtype=bool)
    for _, row in pairs:
        near[row] = True
    return near[held_out:], pairs.report


def nearer_rows(
    queries_ND: Floats,
    references_MD: Floats,
    own_N: Ints,
    max_rank: int = 1,
    *,
    exact_below: int = EXACT_BELOW,
    threads: int = 1,
) -> tuple[Ints, SearchReport]:
    """Find for each query the nearest reference, if enough are nearer than its own; else -1.

    Enough is `max_rank` or more. `own_N` are rows of `references_MD`. What is exactly as near as
    its own is not nearer.
    """
    count = len(references_MD)
    nearest_N = np.full(len(queries_ND), -1, dtype=np.int64)
    if not len(queries_ND):
        return nearest_N, SearchReport("exact", count)
    index = open_index(references_MD, exact=count < exact_below, threads=threads)
    for start in range(0, count, BLOCK_ROWS):
        block_BD = references_MD[start : start + BLOCK_ROWS]
        index.place(block_BD, start)
        index.add(np.arange(len(block_BD)))
    own_cosine_N = cosines(queries_ND, np.arange(len(queries_ND)), references_MD, own_N)
    neighbours = min(max_rank + SPARE_NEIGHBOURS, count)
    for start in range(0, len(queries_ND), BLOCK_ROWS):
        index.place(queries_ND[start : start + BLOCK_ROWS], start)
        query_C, row_C = index.nearest(neighbours, own_cosine_N[start : start + BLOCK_ROWS])
        _note_nearer(queries_ND, references_MD, own_cosine_N, query_C, row_C, max_rank, nearest_N)
    report = SearchReport(index.kind, count)
    if index.kind != "exact":
        sample = sample_rows(len(queries_ND))
        truth_S = outranked(queries_ND[sample], own_cosine_N[sample], references_MD, max_rank)
        report.sampled_rows, report.true = len(sample), int(truth_S.sum())
        report.found = int((truth_S & (nearest_N[sample] >= 0)).sum())
    return nearest_N, report


def _note_nearer(
    queries_ND: Floats,
    references_MD: Floats,
    own_cosine_N: Floats,
    query_C: Ints,
    row_C: Ints,
    max_rank: int,
    nearest_N: Ints,
) -> None:
    """Write the nearest candidate of each query that has `max_rank` nearer than its own."""
    cosine_C = cosines(queries_ND, query_C, references_MD, row_C)
    nearer = cosine_C > own_cosine_N[query_C]
    query_C, row_C, cosine_C = query_C[nearer], row_C[nearer], cosine_C[nearer]
    order = np.lexsort((row_C, -cosine_C, query_C))
    query_C, row_C = query_C[order], row_C[order]
    queries, first, many = np.unique(query_C, return_index=True, return_counts=True)
    ranked_too_low = many >= max_rank
    nearest_N[queries[ranked_too_low]] = row_C[first[ranked_too_low]]


def outranked(
    queries_SD: Floats, own_cosine_S: Floats, references_MD: Floats, max_rank: int
) -> Bools:
    """Return [S] whether `max_rank` references or more are nearer to a query than its own.

    All are compared. A query far from its own has nearly all references before it: they are
    counted, not kept, and only those about as near as its own are looked at twice.
    """
    nearer_S = np.zeros(len(queries_SD), dtype=np.int64)
    own_S1, slack = own_cosine_S[:, None], VectorIndex.exact_slack
    for start in range(0, len(references_MD), BLOCK_ROWS):
        above_SB = queries_SD @ references_MD[start : start + BLOCK_ROWS].T - own_S1
        nearer_S += (above_SB > slack).sum(axis=1)
        query_C, row_C = np.nonzero(np.abs(above_SB) <= slack)
        cosine_C = cosines(queries_SD, query_C, references_MD, row_C + start)
        really = cosine_C > own_cosine_S[query_C]
        nearer_S += np.bincount(query_C[really], minlength=len(nearer_S))
    found_S: Bools = nearer_S >= max_rank
    return found_S


def cosines(one_ND: Floats, of_one: Ints, other_MD: Floats, of_other: Ints) -> Floats:
    """Return the cosine of each pair of unit rows, [P]: float64 rounded to float32.

    A pair's cosine does not depend on the other pairs.
    """
    result_P = np.empty(len(of_one), dtype=np.float32)
    for start in range(0, len(of_one), PAIRS_AT_ONCE):
        some = slice(start, start + PAIRS_AT_ONCE)
        one_PD = one_ND[of_one[some]].astype(np.float64)
        result_P[some] = (one_PD * other_MD[of_other[some]]).sum(axis=1)
    return result_P


def exact_candidates(
    queries_SD: Floats, floor_S: Floats, vectors_ND: Floats
) -> Iterator[tuple[Ints, Ints]]:
    """Yield (query, row) of all pairs whose cosine about reaches the query's floor, in blocks."""
    floor_S1 = (floor_S - VectorIndex.exact_slack)[:, None]
    for start in range(0, len(vectors_ND), BLOCK_ROWS):
        query_C, row_C = np.nonzero(
            queries_SD @ vectors_ND[start : start + BLOCK_ROWS].T >= floor_S1
        )
        yield query_C, row_C + start


def sample_rows(count: int) -> Ints:
    """Return the rows that are searched exactly as well; the same ones for the same count."""
    chosen = np.random.default_rng(0).choice(count, min(SAMPLE_ROWS, count), replace=False)
    return np.sort(chosen)


def _next_size(size: int, candidates: int) -> int:
    """Return the size of the next block; candidates of a row grow with the index."""
    if candidates > MOST_CANDIDATES:
        return max(LEAST_BLOCK_ROWS, size // 2)
    return min(BLOCK_ROWS, size * 2) if candidates < MOST_CANDIDATES // 4 else size
