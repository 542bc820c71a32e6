"""The database of Prefect's temporary server without its migrations."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tasks import prefect_schema
from tasks.prefect_schema import DATABASE, place


def tables(home: Path) -> set[str]:
    with closing(sqlite3.connect(home / DATABASE)) as connection:
        return {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}


def test_place_new_home_gets_the_tables_and_nothing_else(tmp_path: Path) -> None:
    assert place(tmp_path)
    assert {"flow_run", "alembic_version"} <= tables(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [DATABASE]


def test_place_home_with_a_database_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / DATABASE).write_bytes(b"")
    assert not place(tmp_path)
    assert (tmp_path / DATABASE).read_bytes() == b""


def test_place_schema_of_another_version_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "other.sql"
    other.write_text("-- Prefect 0.0.1\nCREATE TABLE flow_run (id);\n")
    monkeypatch.setattr(prefect_schema, "SCHEMA", other)
    assert not place(tmp_path)
    assert not (tmp_path / DATABASE).exists()
