"""Where documents lie: a file, a folder, a glob, or the embedded world; and which files belong.

Its identity is names and contents, never the place: a folder that moves stays what it is.
"""

from __future__ import annotations

import glob
import hashlib
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field, model_validator

from raft_core.config.base import FrozenConfig, digest_file, local_path
from raft_core.errors import InputError

MINI = "mini:"
TEXT, MARKDOWN, ROWS = {".txt"}, {".md", ".markdown"}, {".jsonl"}
KINDS = TEXT | MARKDOWN | ROWS
GIVE = "give .txt, .md or .jsonl files, a folder or a glob of them, or mini:documents"


class DocumentSource(FrozenConfig):
    """Where the documents are."""

    path: str = Field(description="a file, a folder, a glob (quoted), or mini:documents[/DOMAIN]")

    @model_validator(mode="before")
    @classmethod
    def _accept_plain_path(cls, value: object) -> object:
        return {"path": value} if isinstance(value, str) else value

    @property
    def is_mini(self) -> bool:
        """Whether they are the embedded world's."""
        return self.path.startswith(MINI)

    def identity(self) -> dict[str, Any]:
        if self.is_mini:
            from raft_core.mini.documents import VERSION

            return {"mini": self.path, "documents": VERSION}
        total = hashlib.sha256()
        for file in files_of(self.path):
            total.update(f"{file.name}\0{file.digest()}\n".encode("utf-8", "surrogateescape"))
        return {"digest": total.hexdigest()}


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file by its name below what was given; `outside`, where a link leads out of that."""

    path: Path
    name: str
    outside: bool = False

    @property
    def is_regular(self) -> bool:
        """A pipe or a device may be read for ever."""
        try:
            return stat.S_ISREG(self.path.stat().st_mode)
        except OSError:  # what reads it says why
            return True

    @property
    def kind(self) -> str:
        return self.path.suffix.lower()

    def digest(self) -> str:
        """sha256 of what is read; of a file that is not, its name says enough."""
        if self.outside:
            return "outside"
        if self.kind not in KINDS:
            return "unknown kind"
        if not self.is_regular:
            return "no file"
        try:
            return digest_file(self.path)
        except OSError:
            return "unreadable"


def files_of(path: str) -> list[SourceFile]:
    """All files that are not hidden, by name; those that cannot be used are rejected later.

    A link in a folder may lead to any file of the machine: it is followed inside the folder alone.
    A file that was named itself may be a link.

    Raises:
        InputError: there is no such file or folder, or nothing in it.
    """
    try:
        found = list(_below(path))
    except OSError as error:  # links in a circle, a name that is too long
        raise InputError(f"documents '{path[:200]}': {error.strerror}") from None
    if not found:
        raise InputError(f"documents '{path}': no file (looked in {Path.cwd()}); {GIVE}")
    return sorted(found, key=lambda file: file.name)


def _below(path: str) -> Iterator[SourceFile]:
    given = local_path(path, "documents")
    if given.is_dir():
        paths, root = [p for p in given.rglob("*") if not p.is_dir()], given
    elif given.exists() or not glob.has_magic(path):
        if given.exists() and given.suffix.lower() not in KINDS:
            raise InputError(f"documents '{path}': unknown kind '{given.suffix}'; {GIVE}")
        paths, root = [given] if given.exists() else [], given.parent
    else:
        matched = [Path(p) for p in glob.glob(str(given), recursive=True)]
        paths, root = [p for p in matched if not p.is_dir()], fixed_part(given)
    for file in paths:
        below = file.relative_to(root)
        if not any(part.startswith(".") for part in below.parts):
            outside = file != given and _leads_out(file, root)
            yield SourceFile(file, below.as_posix(), outside)


def _leads_out(file: Path, root: Path) -> bool:
    return not Path(os.path.realpath(file)).is_relative_to(os.path.realpath(root))


def fixed_part(pattern: Path) -> Path:
    """The folder above the first part of a glob that stands for several names."""
    fixed = []
    for part in pattern.parts[:-1]:
        if glob.has_magic(part):
            break
        fixed.append(part)
    return Path(*fixed) if fixed else Path(os.curdir)
