"""Locks between processes of one machine, as files below one folder.

The kernel frees the lock of a process that dies. Files are opened for reading and writing: where a
network file system makes `flock` of record locks, either kind of lock needs that.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from raft_core.errors import InputError

PATIENCE_SECONDS = 2.0
POLL_SECONDS = 0.05


class Locks:
    """Locks by name; what cannot be opened or locked is an InputError that names the file."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @contextmanager
    def hold(
        self,
        name: str,
        *,
        shared: bool = False,
        wait: bool = True,
        on_wait: Callable[[], None] | None = None,
    ) -> Iterator[bool]:
        """Hold a lock; without `wait` False where another process has it.

        `on_wait` is called once, where the other one keeps it for longer than two seconds.

        Raises:
            InputError: the folder cannot be written, or its file system knows no locks.
        """
        path = self._folder / f"{name}.lock"
        how = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
        todo = "written"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
            todo = "locked"
            handle = _locked(path, how, wait, on_wait)
        except OSError as error:
            raise InputError(
                f"store '{self._folder.parent}' cannot be {todo}: {error.strerror} ('{path}'); "
                "name another folder (runtime.store, or RAFT_STORE)"
            ) from None
        if handle is None:
            yield False
            return
        with handle:
            yield True

    def forget(self, name: str) -> None:
        """Remove a lock's file; its holder calls this. Who waits for it opens a new one."""
        (self._folder / f"{name}.lock").unlink(missing_ok=True)


def _locked(path: Path, how: int, wait: bool, on_wait: Callable[[], None] | None) -> IO[str] | None:
    """The locked file of this path, or None where it is held and nobody wants to wait."""
    while True:
        handle = open(path, "a+")  # noqa: SIM115 (its holder closes it)
        try:
            if not _acquired(handle, how, wait, on_wait):
                handle.close()
                return None
            if _is_at(handle, path):
                return handle
        except BaseException:
            handle.close()
            raise
        handle.close()  # it was removed meanwhile, and a lock on it holds nobody off


def _acquired(handle: IO[str], how: int, wait: bool, on_wait: Callable[[], None] | None) -> bool:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        with suppress(BlockingIOError):
            fcntl.flock(handle, how | fcntl.LOCK_NB)
            return True
        if not wait:
            return False
        if time.monotonic() >= deadline:
            break
        time.sleep(POLL_SECONDS)
    if on_wait:
        on_wait()
    fcntl.flock(handle, how)
    return True


def _is_at(handle: IO[str], path: Path) -> bool:
    try:
        there = path.stat()
    except FileNotFoundError:
        return False
    return os.path.samestat(os.fstat(handle.fileno()), there)
