"""Read rows of a Parquet file, whose texts stay stored once until their lengths are known."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

from raft_core.data.columnar import (
    BYTES_A_VALUE,
    LEAST_BYTES,
    ROWS_AT_ONCE,
    Allowance,
    Row,
    readable,
    rows_of,
)

FEW_ROWS = 4
SLACK_BYTES = 1024  # a page of few values grows when it is compressed
KIND = "readable Parquet file"


def read_parquet(path: Path, named: Collection[str]) -> Iterator[Row]:
    """Yield (where, row) with the named columns; all others are None.

    Raises:
        InputError: the file is torn, or holds more than may be read.
    """
    import pyarrow.parquet as parquet

    with readable(path, KIND):
        with parquet.ParquetFile(path) as file:
            chosen, texts = _leaves(path, file, named)
            at_once = _rows_at_once(path, file, chosen)
        allowed = Allowance(path, path.stat().st_size)
        with parquet.ParquetFile(path, read_dictionary=texts) as file:
            names = file.schema_arrow.names
            known = [name for name in dict.fromkeys(names) if name in named]
            batches = _parquet_batches(path, file, known, texts, at_once)
            yield from rows_of(str(path), batches, names, allowed)


def rows_in(path: Path) -> int:
    """Return how many rows a file has, by its own metadata."""
    import pyarrow.parquet as parquet

    with readable(path, KIND):
        return int(parquet.read_metadata(path).num_rows)


def _parquet_batches(
    path: Path, file: Any, known: list[str], texts: list[str], at_once: int
) -> Iterator[Any]:
    """Yield batches of one row group after the other: each stores its own texts once.

    Where a writer gave up storing them so, Arrow cannot put lists together from both kinds: those
    are read as plain ones, a few rows at a time.
    """
    import pyarrow as pa
    import pyarrow.parquet as parquet

    for group in range(file.num_row_groups):
        done = 0
        try:
            for batch in file.iter_batches(
                at_once, row_groups=[group], columns=known, use_threads=False
            ):
                yield batch
                done += batch.num_rows
        except pa.ArrowNotImplementedError:
            flat = [name for name in texts if name in known]
            with parquet.ParquetFile(path, read_dictionary=flat) as plain:
                for batch in plain.iter_batches(
                    FEW_ROWS, row_groups=[group], columns=known, use_threads=False
                ):
                    yield batch.slice(min(done, batch.num_rows))
                    done = max(done - batch.num_rows, 0)


def _leaves(path: Path, file: Any, named: Collection[str]) -> tuple[list[int], list[str]]:
    """Return the numbers of the named columns' leaves, and paths of texts that can stay stored."""
    paths, known = [column.path for column in file.schema], set(file.schema_arrow.names)
    chosen = [n for n, at in enumerate(paths) if _top(at, known) in named]
    allowed = Allowance(path, path.stat().st_size)
    plain = set()
    for group in range(file.metadata.num_row_groups):
        for number in chosen:
            chunk = file.metadata.row_group(group).column(number)
            if chunk.total_compressed_size > 2 * chunk.total_uncompressed_size + SLACK_BYTES:
                raise ValueError("it says that its rows take less than they take compressed")
            allowed.take(chunk.total_uncompressed_size + BYTES_A_VALUE * chunk.num_values)
            if _is_delta(chunk):  # Arrow reads these as they are
                plain.add(number)
    kept = [n for n in chosen if n not in plain]
    return chosen, [paths[n] for n in kept if file.schema.column(n).physical_type == "BYTE_ARRAY"]


def _rows_at_once(path: Path, file: Any, chosen: Sequence[int]) -> int:
    """Return how many rows to read at once.

    Fewer where each text may repeat most of the one before: any row may be the longest.
    """
    groups = (file.metadata.row_group(g) for g in range(file.metadata.num_row_groups))
    chunks = (group.column(number) for group in groups for number in chosen)
    longest = max((c.total_uncompressed_size for c in chunks if _is_delta(c)), default=1)
    return min(ROWS_AT_ONCE, max(1, LEAST_BYTES // max(longest, 1)))


def _is_delta(chunk: Any) -> bool:
    return "DELTA_BYTE_ARRAY" in chunk.encodings


def _top(path: str, names: Collection[str]) -> str:
    """Return the column that a leaf belongs to; a name may hold dots itself."""
    parts = path.split(".")
    starts = (".".join(parts[:end]) for end in range(len(parts), 0, -1))
    return next((start for start in starts if start in names), path)
