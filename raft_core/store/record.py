"""What stands in an artifact's `record.json`, and the key that it is kept under."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from pydantic import Field

from raft_core.config.base import FrozenConfig, digest_file

RECORD = "record.json"
KEY_DIGITS = 24
# All files of an artifact.
WHOLE_ARTIFACT = ("*",)


class Record(FrozenConfig):
    """What stands in `record.json`: what the artifact is, what made it, and what it holds."""

    stage: str
    key: str
    version: int
    identity: dict[str, Any]
    config: dict[str, Any]
    inputs: dict[str, str] = Field(description="name -> key of the artifact that was read")
    read: dict[str, str] = Field(description="name -> digest of the parts that were read")
    files: dict[str, str] = Field(description="relative path -> sha256")
    seconds: float
    created: str
    made_by: dict[str, str] = Field(description="versions of RAFT and of Python")

    @property
    def name(self) -> str:
        return f"{self.stage}/{self.key}"

    def is_of(self, stage: str, key: str) -> bool:
        """Whether it is this key's, and what it says of its making gives the key."""
        try:
            made = stage_key(self.stage, self.version, self.identity, self.read)
        except ValueError:  # JSON from elsewhere may hold NaN, which no key is made of
            return False
        return (self.stage, self.key, made) == (stage, key, key)


def stage_key(stage: str, version: int, identity: dict[str, Any], read: dict[str, str]) -> str:
    """Return the key of what a stage makes; `read` maps inputs to the digests of their parts."""
    return _digest({"stage": stage, "version": version, "identity": identity, "read": read})


def parts_digest(key: str, files: Mapping[str, str], parts: Sequence[str]) -> str:
    """Return what stands for the parts of an artifact in the keys of what reads them.

    It is the same for every artifact whose parts hold the same bytes, so that what would come out
    equal is not made again.

    Args:
        key: the artifact's key, which stands for its record, and for everything where `files` is
            empty.
        files: relative path -> sha256.
        parts: glob patterns of relative paths.
    """
    if not files:
        return key
    read = {name: sha for name, sha in files.items() if is_part(name, parts)}
    return _digest(read | ({RECORD: key} if is_part(RECORD, parts) else {}))


def is_part(name: str, parts: Sequence[str]) -> bool:
    """Return whether a file belongs to these parts; the record only where it is named."""
    return any(fnmatchcase(name, part) for part in parts if name != RECORD or part == RECORD)


def _digest(value: Any) -> str:
    canonical = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()[:KEY_DIGITS]


def read_record(folder: Path) -> Record | None:
    """The record of an artifact folder, or None where there is no readable one."""
    try:
        return parse_record((folder / RECORD).read_bytes())
    except OSError:
        return None


def parse_record(text: bytes) -> Record | None:
    """The record of this JSON, or None where it is none that this release can read."""
    try:
        return Record.model_validate_json(text)
    except ValueError:
        return None


def is_foreign(folder: Path) -> bool:
    """Whether a record stands there that only another release can read: not ours to remove."""
    try:
        text = (folder / RECORD).read_bytes()
    except OSError:
        return False
    return parse_record(text) is None and names_itself(text, folder.parent.name, folder.name)


def names_itself(text: bytes, stage: str, key: str) -> bool:
    """Whether this is JSON that says of itself to be this artifact's record."""
    try:
        told = json.loads(text)
    except (ValueError, RecursionError):
        return False
    return isinstance(told, dict) and (told.get("stage"), told.get("key")) == (stage, key)


def is_intact(folder: Path, record: Record) -> bool:
    """Whether the folder holds every recorded file with its recorded digest, and no other file.

    A file too many may change what a model's folder is read as. Hidden ones are left out: a
    desktop leaves them where it was looked at.
    """
    try:
        seen = {name for name in record.files if not name.rpartition("/")[2].startswith(".")}
        return set(files_in(folder)) == seen and all(
            digest_file(folder / name) == digest for name, digest in record.files.items()
        )
    except OSError:  # what cannot be read is as good as lost
        return False


def files_in(folder: Path) -> Iterator[str]:
    """The relative paths of an artifact's files, without the record and hidden ones."""
    for path in folder.rglob("*"):
        if path.is_file() and not path.name.startswith("."):
            name = path.relative_to(folder).as_posix()
            if name != RECORD:
                yield name


def write_record(folder: Path, record: Record) -> None:
    """Write `record.json` durably and in one step; it makes the folder an artifact."""
    path = folder / RECORD
    partial = path.with_suffix(".partial")
    with open(partial, "w") as handle:
        handle.write(record.model_dump_json(indent=1))
        handle.flush()
        os.fsync(handle.fileno())
    partial.rename(path)
