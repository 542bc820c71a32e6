"""Values on disk under keys of 32 bytes, in one SQLite file for all stages: what caches stand on.

The write-ahead log lets many processes read and write at once, and a process that is killed loses
what it has not written, never what it has. The file may be deleted at any time: all that it costs
is making the values again.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, TypeVar

BUSY_SECONDS = 30.0  # others write for milliseconds
KEYS_A_QUERY = 500  # SQLite takes 999 variables everywhere
DAMAGE = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
Result = TypeVar("Result")
Value = TypeVar("Value")


def digest(*parts: Any) -> bytes:
    """sha256 of the canonical JSON of `parts`."""
    canonical = json.dumps(parts, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode()).digest()


def installed_versions(packages: Sequence[str]) -> dict[str, str]:
    """Of those that are installed: another release may compute otherwise."""
    found = {}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


class KeyedFile:
    """Finds and adds values; opened when first used, and never a reason to fail.

    `table` is the table's name and what the values are called, `column` declares them. A value that
    cannot be read costs itself, a damaged file is moved aside; any other fault (a full disk, a lock
    that is never freed) ends caching for this stage. Each is told to `warn`, once.
    """

    def __init__(self, path: Path, table: str, column: str, warn: Callable[[str], None]) -> None:
        self._path, self._table, self._column, self._warn = path, table, column, warn
        self._database: sqlite3.Connection | None = None
        self._inode = 0
        self._given_up = False
        self._told_unreadable = False

    def find(self, keys: Sequence[bytes], parse: Callable[[Any], Value]) -> dict[bytes, Value]:
        """The parsed values of those keys that are known.

        Where `parse` raises `sqlite3.DataError` that value is removed, and made again like others.
        """
        found: dict[bytes, Value] = {}
        for start in range(0, len(keys), KEYS_A_QUERY):
            some = list(keys[start : start + KEYS_A_QUERY])
            query = f"SELECT * FROM {self._table} WHERE key IN ({','.join('?' * len(some))})"

            def select(
                database: sqlite3.Connection, query: str = query, some: list[bytes] = some
            ) -> dict[bytes, Value]:
                return self._parsed(database, database.execute(query, some), parse)

            found |= self._safely(select, dict[bytes, Value]())
        return found

    def add(self, values: Mapping[bytes, str | bytes]) -> None:
        """Keep them for good; of two processes that add one key, the first is believed."""
        rows = list(values.items())

        def insert(database: sqlite3.Connection) -> None:
            with database:
                database.executemany(f"INSERT OR IGNORE INTO {self._table} VALUES (?, ?)", rows)

        self._safely(insert, None)

    def close(self) -> None:
        if self._database is not None:
            self._database.close()
            self._database = None

    def __del__(self) -> None:
        # A connection is in a cycle with its statements: by itself it stays open until the garbage
        # is collected. It may only be closed by the thread that opened it.
        with suppress(sqlite3.Error):
            self.close()

    def _parsed(
        self,
        database: sqlite3.Connection,
        rows: Iterable[tuple[bytes, Any]],
        parse: Callable[[Any], Value],
    ) -> dict[bytes, Value]:
        found, unreadable = {}, []
        for key, value in rows:
            try:
                found[key] = parse(value)
            except sqlite3.DataError:
                unreadable.append((key,))
        if unreadable:
            with database:
                database.executemany(f"DELETE FROM {self._table} WHERE key = ?", unreadable)
            if not self._told_unreadable:
                self._told_unreadable = True
                self._warn(
                    f"some {self._table} in '{self._path}' cannot be read: they are made again"
                )
        return found

    def _safely(self, action: Callable[[sqlite3.Connection], Result], otherwise: Result) -> Result:
        if self._given_up:
            return otherwise
        try:
            return action(self._opened())
        except (sqlite3.Error, OSError) as error:
            if _is_damage(error):
                with self._alone():
                    self._move_aside(error)
            else:
                self._given_up = True
                self._warn(f"{self._table} are not cached: '{self._path}': {error}")
            return otherwise

    def _opened(self) -> sqlite3.Connection:
        if self._database is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._alone():
                self._database = self._connect()
        return self._database

    def _connect(self) -> sqlite3.Connection:
        database = sqlite3.connect(self._path, timeout=BUSY_SECONDS)
        self._inode = self._path.stat().st_ino
        try:
            database.execute("PRAGMA journal_mode = WAL")
            # A commit survives the process without waiting for the disk; a loss of power may cost
            # the last ones, but never the file.
            database.execute("PRAGMA synchronous = NORMAL")
            database.execute(
                f"CREATE TABLE IF NOT EXISTS {self._table} (key BLOB PRIMARY KEY, {self._column})"
            )
        except sqlite3.Error:
            database.close()
            raise
        return database

    def _move_aside(self, error: Exception) -> None:
        self.close()
        if not self._path.exists() or self._path.stat().st_ino != self._inode:
            return  # another process did it
        for suffix in ("", "-wal", "-shm"):
            part = Path(f"{self._path}{suffix}")
            if part.exists():
                part.replace(f"{self._path}.damaged{suffix}")
        self._warn(
            f"'{self._path}' is damaged ({error}): moved aside, {self._table} are made again"
        )

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """No other process opens the file or moves it; the kernel frees the lock of a dead one."""
        with open(f"{self._path}.lock", "a+") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def _is_damage(error: Exception) -> bool:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # the rest says where it was found
    return code in DAMAGE
