"""Ask FAISS two questions: which rows are about so near, and which rows are nearest.

`FlatIndex` compares with every row. `CellIndex` puts rows into cells around k-means centroids (8
bits a component, a quarter of float32) and looks into the `PROBES` cells nearest to a query. Not a
graph (HNSW): it found fewer in the same time (docs/benchmarks.md), and several threads build it
otherwise from run to run.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

PROBES = 8
TRAINING_ROWS_A_CELL = 32
TRAINING_ROUNDS = 8

Floats = np.ndarray[Any, np.dtype[np.float32]]
Ints = np.ndarray[Any, np.dtype[np.int64]]
Bools = np.ndarray[Any, np.dtype[np.bool_]]


class VectorIndex:
    """Index of rows in blocks: `place` a block, ask what is near or nearest to it, `add` its rows.

    Cosines are rough by `slack`; those of products in float32 by `exact_slack`.
    """

    kind = "exact"
    exact_slack = 1e-5
    slack = exact_slack

    def __init__(self, index: Any) -> None:
        self._index = index
        self._block_BD: Floats = np.zeros((0, index.d), dtype=np.float32)
        self._start = 0

    def place(self, block_BD: Floats, start: int) -> None:
        """Set the block that the next calls are about; its first row has the number `start`."""
        self._block_BD, self._start = np.ascontiguousarray(block_BD), start

    def add(self, rows: Ints) -> None:
        """Add these rows of the block to the index."""
        self._index.add_with_ids(self._block_BD[rows], rows + self._start)

    def near(self, threshold: float) -> tuple[Ints, Ints]:
        """Return (block row, known row) of pairs with a cosine of about `threshold` or more."""
        starts, _, found = self._range_search(threshold - self.slack)
        rows = np.repeat(np.arange(len(self._block_BD)), np.diff(starts).astype(np.int64))
        return rows + self._start, found

    def nearest(self, neighbours: int, floor_B: Floats) -> tuple[Ints, Ints]:
        """Return (block row, known row) of each row's nearest neighbours that reach its floor."""
        score_BK, found_BK = self._search(neighbours)
        row_C, place_C = np.nonzero((found_BK >= 0) & (score_BK >= (floor_B - self.slack)[:, None]))
        return row_C + self._start, found_BK[row_C, place_C]

    def _range_search(self, radius: float) -> tuple[Any, Any, Any]:
        return self._index.range_search(self._block_BD, radius)

    def _search(self, neighbours: int) -> tuple[Any, Any]:
        return self._index.search(self._block_BD, neighbours)


class FlatIndex(VectorIndex):
    """Exact search: a product with every row."""

    def __init__(self, width: int) -> None:
        import faiss

        super().__init__(faiss.IndexIDMap(faiss.IndexFlatIP(width)))


class CellIndex(VectorIndex):
    """An inverted file; the cells of a block are looked up once for its search and its adding."""

    kind = "ivf_sq8"
    slack = 5e-3  # 8 bits a component are off by 0.0006 in the mean, at 384 components

    def __init__(self, vectors_ND: Floats) -> None:
        import faiss

        count, width = vectors_ND.shape
        cells = cell_count(count)
        index = faiss.index_factory(width, f"IVF{cells},SQ8", faiss.METRIC_INNER_PRODUCT)
        index.nprobe = min(PROBES, cells)
        index.cp.niter, index.cp.seed = TRAINING_ROUNDS, 0
        rows = min(count, TRAINING_ROWS_A_CELL * cells)
        chosen = np.random.default_rng(0).choice(count, rows, replace=False)
        index.cp.min_points_per_centroid = 1
        index.train(vectors_ND[np.sort(chosen)])
        super().__init__(index)

    def place(self, block_BD: Floats, start: int) -> None:
        """Set the block, and look its cells up."""
        super().place(block_BD, start)
        self._to_cell_BP, self._cell_BP = self._index.quantizer.search(
            self._block_BD, self._index.nprobe
        )

    def add(self, rows: Ints) -> None:
        """Add these rows of the block to the cells that were looked up."""
        from faiss.contrib.ivf_tools import add_preassigned

        # FAISS gets addresses: these names keep the arrays alive until it is done.
        vectors_RD, cell_R = self._block_BD[rows], np.ascontiguousarray(self._cell_BP[rows, 0])
        numbers_R = rows + self._start
        add_preassigned(self._index, vectors_RD, cell_R, numbers_R)

    def _range_search(self, radius: float) -> tuple[Any, Any, Any]:
        return self._index.range_search_preassigned(
            self._block_BD, radius, self._cell_BP, self._to_cell_BP
        )

    def _search(self, neighbours: int) -> tuple[Any, Any]:
        return self._index.search_preassigned(
            self._block_BD, neighbours, self._cell_BP, self._to_cell_BP
        )


def cell_count(count: int) -> int:
    """Return about four times the root of the rows, a power of two: 1024 for 50,000 rows.

    With fewer cells the vectors in a cell take the time, with more the centroids: 4096 for a
    million. A cell of few rows holds eight at least.
    """
    return int(2 ** round(math.log2(max(1, min(4 * math.sqrt(count), count / 8)))))


def open_index(vectors_ND: Floats, *, exact: bool, threads: int) -> VectorIndex:
    """Return an empty index for vectors like these; FAISS then works in so many threads."""
    import faiss

    faiss.omp_set_num_threads(threads)
    return FlatIndex(vectors_ND.shape[1]) if exact else CellIndex(vectors_ND)
