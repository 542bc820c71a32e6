"""Stage `lineage`: every domain row with all that was made of it, as a table and as a page.

It reads what the stages wrote, a row at a time, and changes nothing of it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from raft_core.errors import StageError
from raft_core.execution.stage import StageRun
from raft_core.lineage.config import LineageStage
from raft_core.lineage.page import Facts, render_page
from raft_core.lineage.provenance import input_records, made_with
from raft_core.lineage.rows import lineage_rows
from raft_core.lineage.sample import PageSample
from raft_core.lineage.schema import lineage_schema
from raft_core.lineage.summary import Summary

if TYPE_CHECKING:
    import pyarrow as pa

TABLE, PAGE = "lineage.parquet", "lineage.html"
ROWS_PER_GROUP = 1024


def run(stage: StageRun) -> None:
    """Writes lineage.parquet, of all rows, and lineage.html.

    Raises:
        StageError: the inputs do not belong to each other, or a row is missing.
    """
    config: LineageStage = stage.config
    records = input_records(stage.inputs)
    made = made_with(records)
    expected = json.loads((stage.inputs["prepare"] / "counts.json").read_text())["in"]
    stage.progress.start("lineage", expected)
    summary, sample = Summary(), PageSample(config.lineage.page_rows, config.lineage.seed)
    keys = {name: record.key for name, record in records.items()}
    schema = lineage_schema({"raft.domain": config.domain, "raft.inputs": json.dumps(keys)})
    rows = _counted(lineage_rows(stage.inputs, made), summary, sample)
    for written in write_table(stage.out / TABLE, rows, schema):
        stage.progress.advance(written)
    if summary.rows != expected:
        raise StageError(f"lineage: {summary.rows} rows, and prepare took {expected} in")
    facts = Facts(
        domain=config.domain,
        tau=records["filter"].config["filter"]["tau"] if "filter" in records else None,
        seed=config.lineage.seed,
        made_with=[entry for entries in made.values() for entry in entries],
    )
    shown = read_rows(stage.out / TABLE, sample.indices())
    (stage.out / PAGE).write_text(render_page(shown, summary, facts), encoding="utf-8")
    stage.account(summary.rows, summary.rows, [])


def _counted(
    rows: Iterable[dict[str, Any]], summary: Summary, sample: PageSample
) -> Iterator[dict[str, Any]]:
    for index, row in enumerate(rows):
        summary.add(row)
        sample.add(index, row["id"], (row["status"], row["reason"]))
        yield row


def write_table(path: Path, rows: Iterator[dict[str, Any]], schema: pa.Schema) -> Iterator[int]:
    """Write a row group at a time; yields how many rows each has."""
    import pyarrow as pa
    import pyarrow.parquet as parquet

    with parquet.ParquetWriter(path, schema, compression="zstd") as writer:
        while group := list(islice(rows, ROWS_PER_GROUP)):
            writer.write_batch(pa.RecordBatch.from_pylist(group, schema=schema))
            yield len(group)


def read_rows(path: Path, indices: list[int]) -> Iterator[dict[str, Any]]:
    """The rows at these positions, ascending; row groups that hold none are not read."""
    import pyarrow.parquet as parquet

    with parquet.ParquetFile(path) as file:
        begin = 0
        for group in range(file.num_row_groups):
            end = begin + file.metadata.row_group(group).num_rows
            here = [index - begin for index in indices if begin <= index < end]
            if here:
                table = file.read_row_group(group, use_threads=False)
                yield from table.take(here).to_pylist()
            begin = end
