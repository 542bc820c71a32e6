"""The empty database of Prefect's temporary server, as its migrations make it.

They take four seconds, a hundred of them one after the other; their outcome is in
`prefect_schema.sql`. `python -m tasks.prefect_schema` writes it again, and has to after a change of
Prefect's version: the outcome for another version than the installed one is not used.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
from contextlib import closing, suppress
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory

SCHEMA = Path(__file__).with_suffix(".sql")
DATABASE = "prefect.db"


def heading() -> str:
    return f"-- Prefect {version('prefect')}\n"


def place(home: Path) -> bool:
    """Make the database in Prefect's home, unless it has one; whether the schema was used."""
    database = home / DATABASE
    if database.exists() or not SCHEMA.is_file():
        return False
    text = SCHEMA.read_text(encoding="utf-8")
    if not text.startswith(heading()):
        return False
    with TemporaryDirectory(dir=home) as folder:
        made = Path(folder) / DATABASE
        with closing(sqlite3.connect(made)) as connection:
            connection.executescript(text)
        with suppress(FileExistsError):  # a server that started at the same moment was faster
            os.link(made, database)
    return True


def migrated(home: Path) -> str:
    """What Prefect's own migrations make of a new database, as SQL."""
    os.environ["PREFECT_HOME"] = str(home)
    from prefect.server.database import provide_database_interface

    asyncio.run(provide_database_interface().create_db())
    with closing(sqlite3.connect(home / DATABASE)) as connection:
        return heading() + "".join(f"{statement}\n" for statement in connection.iterdump())


if __name__ == "__main__":
    with TemporaryDirectory() as empty:
        SCHEMA.write_text(migrated(Path(empty)), encoding="utf-8")
