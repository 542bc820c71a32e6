"""Who may read what is written: rows, answers, databases and logs are their user's alone.

The mask of the process decides it, so that libraries, servers and the processes of stages keep to
it too. RAFT_UMASK names another one: with 007 the folder's group shares a home or a store.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from raft_core.errors import InputError

VARIABLE = "RAFT_UMASK"
PRIVATE = 0o077
_FOUND: list[int] = []  # the user's own mask, once another is in its place


def keep_private(home: Path | None = None) -> None:
    """Have what this process and its children write be the user's alone from now on.

    A home that others can look into is closed, if it is the user's and no folder of everybody's.

    Raises:
        InputError: RAFT_UMASK is no mask.
    """
    mask = wanted_mask()
    before = os.umask(mask)
    if not _FOUND:
        _FOUND.append(before)
    with suppress(OSError):  # it is not there yet, or somebody else's
        if home is not None:
            mode = stat.S_IMODE(home.stat().st_mode)
            if mode & mask and not mode & stat.S_ISVTX:
                home.chmod(mode & ~mask)


def wanted_mask() -> int:
    given = os.environ.get(VARIABLE) or f"{PRIVATE:03o}"
    try:
        mask = int(given, 8)
    except ValueError:
        mask = -1
    if not 0 <= mask <= PRIVATE:
        raise InputError(f"{VARIABLE}='{given[:20]}': give a mask from 000 to 077, such as 007")
    return mask


@contextmanager
def with_users_mask() -> Iterator[None]:
    """What is written where the user asked for it gets the mode that any program would give it."""
    private = os.umask(_FOUND[0]) if _FOUND else None
    try:
        yield
    finally:
        if private is not None:
            os.umask(private)
