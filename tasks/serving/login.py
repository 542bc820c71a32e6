"""The login of this home's servers: one line `raft:PASSWORD`, readable by its owner alone."""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from pathlib import Path

USER = "raft"


def new_login() -> str:
    """Return `user:password` with a random password of 256 bits."""
    return f"{USER}:{secrets.token_urlsafe(32)}"


def made_login(file: Path) -> str:
    """Return the login that a file holds; make both where there is none."""
    known = read_login(file)
    if known is not None:
        file.chmod(0o600)
        return known
    login = new_login()
    file.parent.mkdir(parents=True, exist_ok=True)
    write_private(file, f"{login}\n")
    return login


def read_login(file: Path) -> str | None:
    """Return the login that a file holds; None where this user has none."""
    with suppress(OSError):
        login = file.read_text(encoding="utf-8").strip()
        return login if ":" in login else None
    return None


def write_private(file: Path, text: str) -> None:
    """Write a file that only its owner can read, at every moment."""
    partial = file.with_name(f".{file.name}.{os.getpid()}")
    with suppress(FileNotFoundError):
        partial.unlink()
    with open(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as written:
        written.write(text)
    partial.replace(file)
