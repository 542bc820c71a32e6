"""The neighbour search against plain numpy, its recall, and what must not matter."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from raft_core.data.neighbours import BLOCK_ROWS, NearPairs, near_held_out, nearer_rows, outranked

ROWS, WIDTH = 2 * BLOCK_ROWS + 300, 48
Pairs = set[tuple[int, int]]
APPROXIMATE = {"exact_below": 1}


def unit(vectors: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture(scope="module")
def vectors() -> np.ndarray[Any, Any]:
    """Clusters, in which every third row is a copy of another one, moved a little."""
    rng = np.random.default_rng(5)
    found = unit(
        rng.normal(size=(40, WIDTH))[rng.integers(0, 40, ROWS)] + rng.normal(size=(ROWS, WIDTH))
    )
    rows = rng.permutation(ROWS)[: 2 * (ROWS // 3)].reshape(2, -1)
    found[rows[0]] = unit(found[rows[1]] + rng.normal(size=(ROWS // 3, WIDTH)) * 0.05)
    return found


def brute_force(vectors: np.ndarray[Any, Any], threshold: float) -> Pairs:
    first, second = np.nonzero(np.triu(vectors @ vectors.T >= threshold, 1))
    return set(zip(first.tolist(), second.tolist(), strict=True))


@pytest.mark.parametrize("threshold", [0.7, 0.95])
def test_near_pairs_exact_equal_brute_force_by_later_row(
    vectors: np.ndarray[Any, Any], threshold: float
) -> None:
    found = list(NearPairs(vectors, threshold))
    assert set(found) == brute_force(vectors, threshold)
    assert len(set(found)) == len(found) > 100
    assert found == sorted(found, key=lambda pair: pair[::-1])


def test_near_pairs_approximate_misses_few_and_adds_none(vectors: np.ndarray[Any, Any]) -> None:
    search = NearPairs(vectors, 0.9, **APPROXIMATE)
    found, true = set(search), brute_force(vectors, 0.9)
    assert found <= true
    assert len(found) >= 0.98 * len(true)
    assert search.report.kind == "ivf_sq8"


def test_near_pairs_report_tells_the_recall_of_its_sample(
    vectors: np.ndarray[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Every row is in the sample; one cell of many is looked into, so that pairs are missed.
    monkeypatch.setattr("raft_core.data.neighbours.SAMPLE_ROWS", ROWS)
    monkeypatch.setattr("raft_core.data.vector_index.PROBES", 1)
    search = NearPairs(vectors, 0.9, **APPROXIMATE)
    found, true = set(search), brute_force(vectors, 0.9)
    assert len(found) < len(true)
    assert (search.report.true, search.report.found) == (len(true), len(found))
    assert search.report.recall == pytest.approx(len(found) / len(true), abs=1e-6)


@pytest.mark.parametrize("options", [{}, APPROXIMATE])
def test_near_pairs_do_not_depend_on_threads(
    vectors: np.ndarray[Any, Any], options: dict[str, int]
) -> None:
    one, three = (list(NearPairs(vectors, 0.9, threads=n, **options)) for n in (1, 3))
    assert one == three
    assert one


@pytest.mark.parametrize("options", [{}, APPROXIMATE])
def test_near_pairs_of_rows_in_another_order_are_the_same(
    vectors: np.ndarray[Any, Any], options: dict[str, int]
) -> None:
    order = np.random.default_rng(6).permutation(ROWS)
    found = set(NearPairs(vectors, 0.9, **options))
    shuffled = NearPairs(vectors[order], 0.9, **options)
    again = {tuple(sorted((int(order[i]), int(order[j])))) for i, j in shuffled}
    missed = len(found ^ again)
    assert missed == 0 if not options else missed <= 0.02 * len(found)


def test_near_pairs_threshold_itself_counts_and_just_below_does_not() -> None:
    rows = np.array([[1, 0], [1, 0], [0, 1], [0.8, 0.6]], dtype=np.float32)
    assert list(NearPairs(rows, 1.0)) == [(0, 1)]
    assert list(NearPairs(rows, 0.8)) == [(0, 1), (0, 3), (1, 3)]
    above = float(np.nextafter(np.float32(0.8), np.float32(1)))
    assert list(NearPairs(rows, above)) == [(0, 1)]


def test_near_pairs_of_no_and_of_one_row_are_none() -> None:
    assert list(NearPairs(np.ones((1, 3), dtype=np.float32), 0.5)) == []
    assert list(NearPairs(np.zeros((0, 3), dtype=np.float32), 0.5)) == []


@pytest.mark.parametrize("options", [{}, APPROXIMATE])
def test_near_pairs_skipped_rows_are_searched_for_no_more(
    options: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("raft_core.data.neighbours.BLOCK_ROWS", 64)
    copies = np.tile(np.array([[0.6, 0.8]], dtype=np.float32), (150, 1))
    search = NearPairs(copies, 0.9, **options)
    found = []
    for first, second in search:
        found.append((first, second))
        search.skip[second] = True
    assert found == [(0, row) for row in range(1, len(copies))]


def test_near_pairs_many_candidates_make_smaller_blocks_and_the_same_pairs(
    vectors: np.ndarray[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = list(NearPairs(vectors, 0.7))
    monkeypatch.setattr("raft_core.data.neighbours.MOST_CANDIDATES", 100)
    assert list(NearPairs(vectors, 0.7)) == before


@pytest.mark.parametrize("options", [{}, APPROXIMATE])
def test_near_held_out_finds_the_rows_near_one_of_the_first(
    vectors: np.ndarray[Any, Any], options: dict[str, int]
) -> None:
    near, report = near_held_out(vectors, 400, 0.9, **options)
    true = (vectors[400:] @ vectors[:400].T >= 0.9).any(axis=1)
    assert not (near & ~true).any()
    assert (near & true).sum() >= (0.98 if options else 1) * true.sum() > 50
    assert report.vectors == ROWS


@pytest.mark.parametrize("options", [{}, APPROXIMATE])
@pytest.mark.parametrize("max_rank", [1, 3])
def test_nearer_rows_equal_brute_force(
    vectors: np.ndarray[Any, Any], options: dict[str, int], max_rank: int
) -> None:
    rng = np.random.default_rng(7)
    own = np.arange(ROWS)
    own[:300] = np.roll(own[:300], 1)  # rewrites of other rows
    queries = unit(vectors + rng.normal(size=vectors.shape) * 0.08)
    cosines = queries @ vectors.T
    ranked_too_low = (cosines > cosines[np.arange(ROWS), own][:, None]).sum(axis=1) >= max_rank
    true = np.where(ranked_too_low, cosines.argmax(axis=1), -1)
    nearest, report = nearer_rows(queries, vectors, own, max_rank, **options)
    assert (true >= 0).sum() > 200
    if not options:
        assert nearest.tolist() == true.tolist()
    else:
        assert (nearest == true).mean() >= 0.99
        assert report.recall is not None
        assert report.recall >= 0.95


@pytest.mark.parametrize("max_rank", [1, 3, 500])
def test_outranked_equals_brute_force_and_equal_cosines_do_not_count(
    vectors: np.ndarray[Any, Any], max_rank: int
) -> None:
    rng = np.random.default_rng(8)
    rows = rng.permutation(ROWS)[:300]
    references = np.concatenate([vectors, vectors[rows]])  # every own reference stands twice
    queries = unit(vectors[rows] + rng.normal(size=(300, WIDTH)) * 0.3)
    own = np.where(np.arange(300) < 100, np.roll(rows, 1), rows)  # some are far from their own
    product = (queries.astype(np.float64) @ references.T.astype(np.float64)).astype(np.float32)
    own_cosine = product[np.arange(300), own]
    true = (product > own_cosine[:, None]).sum(axis=1) >= max_rank
    assert outranked(queries, own_cosine, references, max_rank).tolist() == true.tolist()
    assert 0 < true.sum() < 300


def test_nearer_rows_of_nothing_are_none() -> None:
    nearest, _ = nearer_rows(
        np.zeros((0, 0), np.float32), np.ones((2, 3), np.float32), np.zeros(0, np.int64)
    )
    assert nearest.shape == (0,)
