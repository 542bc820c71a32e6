"""lineage.parquet: every row once, with what every stage said of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as parquet
import pytest

from raft_core.data.records import read_jsonl, write_jsonl
from raft_core.errors import StageError
from raft_core.lineage import lineage as stage
from raft_core.lineage.schema import lineage_schema
from raft_core.store.record import read_record
from tests.unit.lineage.crafted import ARABIC, HOSTILE, JAPANESE, Crafted, Run, example


def table(folder: Path) -> dict[str, dict[str, Any]]:
    rows = parquet.read_table(folder / "lineage.parquet").to_pylist()
    by_id = {row["id"]: row for row in rows}
    assert len(by_id) == len(rows)
    return by_id


def test_lineage_every_row_occurs_once_in_the_order_of_the_splits(
    crafted: Crafted, run_lineage: Run
) -> None:
    rows = table(run_lineage(crafted.write()))
    assert [(i, row["status"], row["decided_by"], row["reason"]) for i, row in rows.items()] == [
        ("fused", "fused", "fuse", None),
        ("below", "kept_reference", "filter", "below_tau"),
        ("guarded", "kept_reference", "filter", "guard"),
        ("arabic", "kept_rewrite", "fuse", "keeps_rewrite"),
        (HOSTILE, "fused", "fuse", None),
        ("valid", "held_out", "prepare", None),
        ("tested", "held_out", "prepare", None),
        ("again", "dropped", "prepare", "near_duplicate"),
    ]


def test_lineage_rows_of_two_shards_are_those_of_one(crafted: Crafted, run_lineage: Run) -> None:
    whole = table(run_lineage(crafted.write(), "whole"))
    parts = table(run_lineage(crafted.write(shards=2), "parts"))
    for row in (*whole.values(), *parts.values()):
        del row["made_with"]
    assert list(parts.values()) == list(whole.values())


def test_lineage_same_inputs_same_bytes(crafted: Crafted, run_lineage: Run) -> None:
    inputs = crafted.write()
    one, other = run_lineage(inputs, "one"), run_lineage(inputs, "other")
    for name in ("lineage.parquet", "lineage.html"):
        assert (one / name).read_bytes() == (other / name).read_bytes()


def test_lineage_best_of_the_candidates_is_the_chosen_one(
    crafted: Crafted, run_lineage: Run
) -> None:
    rows = table(run_lineage(crafted.write()))
    assert [c["chosen"] for c in rows["fused"]["candidates"]] == [False, True]
    assert [c["chosen"] for c in rows["arabic"]["candidates"]] == [False]
    assert rows["fused"]["target"] == rows["fused"]["candidates"][1]["text"]


def test_lineage_failed_vote_is_a_vote_without_a_grade(crafted: Crafted, run_lineage: Run) -> None:
    first = table(run_lineage(crafted.write()))["fused"]["candidates"][0]
    assert first["votes"] == [
        {"judge": "coverage_1", "grade": 0.7},
        {"judge": "llm_2", "grade": None},
    ]


def test_lineage_guard_broken_passed_and_not_looked_at_differ(
    crafted: Crafted, run_lineage: Run
) -> None:
    rows = table(run_lineage(crafted.write()))
    broken = [{"rule": "numbers", "failed": "12"}]
    assert rows["guarded"]["filter"]["guard"] == broken
    assert rows["fused"]["filter"]["guard"] == []
    assert rows["below"]["filter"]["guard"] is None
    assert [c["guard"] for c in rows["fused"]["candidates"]] == [None, []]


def test_lineage_row_that_no_one_fused_has_no_candidates(
    crafted: Crafted, run_lineage: Run
) -> None:
    rows = table(run_lineage(crafted.write()))
    assert rows["below"]["candidates"] == rows["guarded"]["candidates"] == []
    assert rows["valid"]["candidates"] is None


def test_lineage_no_row_is_fused_all_keep_their_references(
    tmp_path: Path, run_lineage: Run
) -> None:
    made = Crafted(tmp_path / "none")
    for row_id in "abc":
        verdict = {"id": row_id, "text": "", "similarity": None, "passed": False, "reason": "empty"}
        made.add(example(row_id), verdict, ("it is red", "reference"), [])
    rows = table(run_lineage(made.write()))
    assert {row["target"] for row in rows.values()} == {"it is red"}
    assert {row["filter"]["similarity"] for row in rows.values()} == {None}


def test_lineage_texts_of_any_script_are_kept_as_they_are(
    crafted: Crafted, run_lineage: Run
) -> None:
    rows = table(run_lineage(crafted.write()))
    assert (rows["arabic"]["reference"], rows["arabic"]["target"]) == (ARABIC, JAPANESE)
    assert rows[HOSTILE]["question"] == HOSTILE


def test_lineage_dropped_row_has_its_text_where_prepare_kept_it(
    crafted: Crafted, run_lineage: Run
) -> None:
    known = table(run_lineage(crafted.write(), "new"))["again"]
    assert (known["question"], known["split"]) == ("what is again?", "train")
    (crafted.root / "prepare" / "rejected_rows.jsonl").unlink()
    older = table(run_lineage(crafted.write(texts_of_dropped=False), "old"))["again"]
    assert (older["question"], older["split"], older["reason"]) == (None, None, "near_duplicate")


def test_lineage_row_names_what_its_own_stages_used(crafted: Crafted, run_lineage: Run) -> None:
    inputs = crafted.write()
    rows = table(run_lineage(inputs))

    def used(row_id: str) -> dict[str, str]:
        return {f"{e['stage']}.{e['role']}": e["digest"] for e in rows[row_id]["made_with"]}

    assert used("again").keys() == {"prepare.domain.data", "prepare.encoder.model"}
    assert used("below").keys() - used("again").keys() == {
        "rewrite.prompt", "rewrite.generator.model", "filter.encoder.model",
    }  # fmt: skip
    assert used("fused").keys() - used("below").keys() == {
        "fuse.generator.model", "fuse.fuse.prompt", "fuse.fuse.judges.3.encoder.model",
    }  # fmt: skip
    record = read_record(inputs["fuse.00000"])
    assert record is not None
    digest = record.identity["generator"]["model"]["digest"]
    assert used("fused")["fuse.generator.model"] == digest
    assert digest != used("fused")["rewrite.generator.model"]


def test_lineage_file_describes_every_column_and_names_its_inputs(
    crafted: Crafted, run_lineage: Run
) -> None:
    inputs = crafted.write()
    schema = parquet.read_schema(run_lineage(inputs) / "lineage.parquet")
    assert schema.equals(lineage_schema({}))

    def described(field: pa.Field) -> bool:
        kind = field.type
        while pa.types.is_list(kind):
            kind = kind.value_type
        inner = [kind.field(i) for i in range(kind.num_fields)] if pa.types.is_struct(kind) else []
        return bool((field.metadata or {}).get(b"description")) and all(map(described, inner))

    assert all(described(field) for field in schema)
    assert schema.metadata[b"raft.schema_version"] == b"1"
    assert json.loads(schema.metadata[b"raft.inputs"]).keys() == inputs.keys()


def test_lineage_rows_beyond_a_row_group_are_all_written(
    crafted: Crafted, run_lineage: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stage, "ROWS_PER_GROUP", 3)
    out = run_lineage(crafted.write())
    assert parquet.ParquetFile(out / "lineage.parquet").num_row_groups == 3
    chosen = list(stage.read_rows(out / "lineage.parquet", [0, 4, 7]))
    assert [row["id"] for row in chosen] == ["fused", HOSTILE, "again"]


@pytest.mark.parametrize(
    ("name", "file", "told"),
    [
        ("filter", "filtered.jsonl", "has no filter"),
        ("fuse.00000", "lineage.jsonl", "has no fusion"),
    ],
)
def test_lineage_verdict_is_missing_stops(
    crafted: Crafted, run_lineage: Run, name: str, file: str, told: str
) -> None:
    inputs = crafted.write()
    write_jsonl(inputs[name] / file, list(read_jsonl(inputs[name] / file))[1:])
    with pytest.raises(StageError, match=told):
        run_lineage(inputs)


def test_lineage_rewrite_of_no_row_stops(crafted: Crafted, run_lineage: Run) -> None:
    inputs = crafted.write()
    file = inputs["rewrite.00000"] / "rewrites.jsonl"
    write_jsonl(file, reversed(list(read_jsonl(file))))
    with pytest.raises(StageError, match="belongs to no row"):
        run_lineage(inputs)


def test_lineage_row_that_prepare_counted_is_missing_stops(
    crafted: Crafted, run_lineage: Run
) -> None:
    inputs = crafted.write()
    (inputs["prepare"] / "counts.json").write_text('{"in": 9}')
    with pytest.raises(StageError, match="8 rows, and prepare took 9 in"):
        run_lineage(inputs)


def without(inputs: Mapping[str, Path], *groups: str) -> dict[str, Path]:
    return {name: path for name, path in inputs.items() if name.partition(".")[0] not in groups}


def test_lineage_of_a_run_that_refines_nothing_keeps_every_training_row_as_it_is(
    crafted: Crafted, run_lineage: Run
) -> None:
    rows = table(run_lineage(without(crafted.write(), "rewrite", "filter", "fuse")))
    trained = [r for r in rows.values() if r["split"] == "train" and r["status"] != "dropped"]
    assert trained
    for row in trained:
        assert (row["status"], row["decided_by"]) == ("kept_reference", "prepare")
        assert (row["target"], row["target_source"]) == (row["reference"], "reference")
        assert row["filter"] is row["fuse"] is row["rewrite"] is row["candidates"] is None


def test_lineage_of_a_run_without_fusion_is_decided_by_the_filter(
    crafted: Crafted, run_lineage: Run
) -> None:
    inputs = crafted.write()
    whole = table(run_lineage(inputs))
    rows = table(run_lineage(without(inputs, "fuse"), "filtered"))
    trained = [row for row in rows.values() if row["filter"] is not None]
    assert trained
    for row in trained:
        assert row["filter"] == whole[row["id"]]["filter"]
        passed = row["filter"]["passed"]
        assert row["status"] == ("kept_rewrite" if passed else "kept_reference")
        assert row["decided_by"] == "filter"
        assert row["target"] is row["fuse"] is None
