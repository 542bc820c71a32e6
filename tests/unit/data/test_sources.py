"""Rows from every kind of file, and an error for each that names file, row, field and remedy."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from raft_core.data.sources import Columns, DataSource, question_and_answer, read_rows
from raft_core.errors import InputError

ROWS = [
    {"id": "a", "question": "Why?", "answer": "So."},
    {"id": "b", "question": "ما هذا؟", "answer": "Ünïcode ✓"},
]


def jsonl(path: Path, *rows: Any) -> DataSource:
    lines = (row if isinstance(row, str) else json.dumps(row, ensure_ascii=False) for row in rows)
    path.write_text("\n".join(lines), encoding="utf-8")
    return DataSource(path=str(path))


def pairs(source: DataSource) -> list[tuple[str, str]]:
    return [
        question_and_answer(where, row, source.columns)
        for where, row in read_rows(source, source.columns.pair)
    ]


def test_jsonl_blank_lines_skipped_rows_numbered_as_in_the_file(tmp_path: Path) -> None:
    source = jsonl(tmp_path / "d.jsonl", ROWS[0], "", ROWS[1])
    assert [where for where, _ in read_rows(source, ())] == [
        f"{tmp_path}/d.jsonl row 1",
        f"{tmp_path}/d.jsonl row 3",
    ]
    assert pairs(source)[1] == ("ما هذا؟", "Ünïcode ✓")


def test_parquet_and_saved_dataset_give_the_rows_of_jsonl(tmp_path: Path) -> None:
    from datasets import Dataset

    dataset = Dataset.from_list(ROWS)
    dataset.to_parquet(str(tmp_path / "d.parquet"))
    dataset.save_to_disk(str(tmp_path / "folder"))
    expected = pairs(jsonl(tmp_path / "d.jsonl", *ROWS))
    assert pairs(DataSource(path=str(tmp_path / "d.parquet"))) == expected
    assert pairs(DataSource(path=str(tmp_path / "folder"))) == expected


def test_saved_dataset_dict_keeps_its_splits(tmp_path: Path) -> None:
    from datasets import Dataset, DatasetDict

    parts = {"train": Dataset.from_list(ROWS[:1]), "test": Dataset.from_list(ROWS[1:])}
    DatasetDict(parts).save_to_disk(str(tmp_path / "folder"))
    rows = [row for _, row in read_rows(DataSource(path=str(tmp_path / "folder")), ("question",))]
    assert [row["split"] for row in rows] == ["train", "test"]


def test_messages_system_turn_joins_the_question(tmp_path: Path) -> None:
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Why?"},
        {"role": "assistant", "content": "So."},
    ]
    assert pairs(jsonl(tmp_path / "d.jsonl", {"messages": messages})) == [
        ("Be brief.\n\nWhy?", "So.")
    ]


def test_own_column_names(tmp_path: Path) -> None:
    jsonl(tmp_path / "d.jsonl", {"q": "Why?", "long_answer": "So."})
    columns = Columns(question="q", answer="long_answer")
    assert pairs(DataSource(path=str(tmp_path / "d.jsonl"), columns=columns)) == [("Why?", "So.")]


GOOD = ROWS[0]
BAD: list[tuple[Any, str]] = [
    ('{"question": "Why?", "ans', r"row 2: not JSON .*one JSON object"),
    ("[1, 2]", r"row 2: a list, not an object"),
    ({"question": "Why?"}, r"row 2: field 'answer' is missing .*domain\.data\.columns"),
    ({"question": "Why?", "answer": "  "}, r"row 2: field 'answer' is empty; fill it or remove"),
    ({"question": 7, "answer": "So."}, r"row 2: field 'question' is a int, not a string"),
    ({"question": "Why?", "answer": "a\0b"}, r"row 2: field 'answer' holds a NUL"),
    ({"question": "Why?", "answer": "x" * 100_001}, r"row 2: field 'answer' has 100,001 char"),
    ('{"question": "Why?", "answer": "a\\ud83d"}', r"row 2: field 'answer' holds half of a char"),
    ({"messages": ["Why?", "So."]}, r"row 2: field 'messages' must hold one user turn"),
    ({"messages": []}, r"row 2: field 'messages' must hold one user turn"),
    ({"messages": [{"role": "user", "content": "a"}]}, r"row 2: .*found roles \['user'\]"),
]


@pytest.mark.parametrize(("row", "message"), BAD)
def test_bad_row_error_names_file_row_field_and_remedy(
    tmp_path: Path, row: Any, message: str
) -> None:
    with pytest.raises(InputError, match=r"d\.jsonl " + message):
        pairs(jsonl(tmp_path / "d.jsonl", GOOD, row))


def test_not_utf8_error_names_the_file(tmp_path: Path) -> None:
    (tmp_path / "d.jsonl").write_bytes(b'{"question": "\xff"}')
    with pytest.raises(InputError, match=r"d\.jsonl: not UTF-8"):
        pairs(DataSource(path=str(tmp_path / "d.jsonl")))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("missing.jsonl", "no such file or folder"),
        ("d.csv", r"unknown kind '\.csv'"),
        ("bad.parquet", "not a readable Parquet"),
        ("folder", "not a folder saved by datasets"),
    ],
)
def test_unreadable_file_error(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "d.csv").write_text("a,b")
    (tmp_path / "bad.parquet").write_text("no")
    (tmp_path / "folder").mkdir()
    with pytest.raises(InputError, match=message):
        pairs(DataSource(path=str(tmp_path / name)))


def test_mini_unknown_name_error() -> None:
    with pytest.raises(InputError, match="no domain 'sport' in the mini world"):
        list(read_rows(DataSource(path="mini:sport"), ()))


def test_identity_is_the_content_not_the_place(tmp_path: Path) -> None:
    one, two = jsonl(tmp_path / "a.jsonl", *ROWS), jsonl(tmp_path / "b.jsonl", *ROWS)
    other = jsonl(tmp_path / "c.jsonl", *ROWS[:1])
    assert one.identity() == two.identity() != other.identity()
