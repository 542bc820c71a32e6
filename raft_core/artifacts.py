"""Content-addressed artifacts: what a stage made, under a key of everything that decides it.

The store is the only authority on what is done. An artifact is a folder whose `record.json` is
written last and names the digest of every file; without a valid record it does not exist.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import platform
import re
import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import Field

from raft_core import __version__
from raft_core.config import FrozenConfig, digest_file
from raft_core.errors import InputError, StageError

RECORD = "record.json"
DOWNLOAD = ".download"
USERS = "users"
KEY_DIGITS = 24
PLAIN = re.compile(r"[\w-]+")


class ArtifactRef(FrozenConfig):
    """A committed artifact: enough to be an input of the next stage."""

    stage: str
    key: str
    path: str

    @property
    def folder(self) -> Path:
        return Path(self.path)


class StageSpec(FrozenConfig):
    """One stage to run: its resolved configuration, its inputs, and how to execute it.

    `identity` is the fingerprint of `config`; `runtime` holds what cannot change the result.
    """

    stage: str
    version: int
    config: dict[str, Any]
    identity: dict[str, Any]
    inputs: dict[str, ArtifactRef] = {}
    runtime: dict[str, Any] = {}

    @property
    def key(self) -> str:
        """sha256 over stage, version, identity and the keys of the inputs, as hex."""
        inputs = {name: ref.key for name, ref in self.inputs.items()}
        return stage_key(self.stage, self.version, self.identity, inputs)


class Record(FrozenConfig):
    """What stands in `record.json`: what the artifact is, what made it, and what it holds."""

    stage: str
    key: str
    version: int
    identity: dict[str, Any]
    config: dict[str, Any]
    inputs: dict[str, str] = Field(description="name -> key")
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
            made = stage_key(self.stage, self.version, self.identity, self.inputs)
        except ValueError:  # JSON from elsewhere may hold NaN, which no key is made of
            return False
        return (self.stage, self.key, made) == (stage, key, key)


def stage_key(stage: str, version: int, identity: dict[str, Any], inputs: dict[str, str]) -> str:
    """The key of what a stage makes; `inputs` maps their names to their keys."""
    parts = {"stage": stage, "version": version, "identity": identity, "inputs": inputs}
    canonical = json.dumps(parts, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()[:KEY_DIGITS]


class Store:
    """Artifacts, locks and work folders below one root on a local file system."""

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root).expanduser().resolve()

    def is_kept(self, spec: StageSpec) -> bool:
        """Whether this machine has a record of it; what the record says is not looked at."""
        return (self._folder(spec.stage, spec.key) / RECORD).is_file()

    def find(self, spec: StageSpec) -> ArtifactRef | None:
        """The artifact of this key, if it is complete and its files are what was recorded."""
        return self._find(spec.stage, spec.key)

    def fetch(self, stage: str, key: str) -> ArtifactRef:
        """The artifact of this stage and key, whichever machine made it, as a folder of this one.

        Raises:
            StageError: it is nowhere, or no longer what was recorded.
        """
        if not (PLAIN.fullmatch(stage) and PLAIN.fullmatch(key)):
            raise StageError(f"no artifact is named {stage!r}/{key!r}")
        with self._hold(stage, key):
            found = self._find(stage, key)
        if found is None:
            raise StageError(
                f"artifact {stage}/{key} is missing or damaged in {self}; run its stage again, or "
                "any flow that uses it on the machine that has it, with the same store"
            )
        return found

    def localised(self, spec: StageSpec) -> StageSpec:
        """The same stage, and so the same key, with its inputs fetched: their paths hold here.

        Raises:
            StageError: an input cannot be fetched.
        """
        here = {name: self.fetch(ref.stage, ref.key) for name, ref in spec.inputs.items()}
        return spec.model_copy(update={"inputs": here})

    @contextmanager
    def lock(self, spec: StageSpec) -> Iterator[None]:
        """Hold the key against other processes; the kernel frees it when the holder dies."""
        with self._hold(spec.stage, spec.key):
            yield

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """As long as it lasts, nobody of this machine is `alone`: a run keeps what it has found."""
        with self._locked(USERS, fcntl.LOCK_SH):
            yield

    @contextmanager
    def alone(self) -> Iterator[bool]:
        """Whether no run of this machine uses the store; none begins before this ends."""
        with self._locked(USERS, fcntl.LOCK_EX | fcntl.LOCK_NB) as held:
            yield held

    def last_used(self, record: Record) -> datetime:
        """When a run of this machine last found or made it."""
        made = datetime.fromisoformat(record.created)
        file = self._folder(record.stage, record.key) / RECORD
        if not file.is_file():
            return made
        return max(made, datetime.fromtimestamp(file.stat().st_mtime, UTC))

    def work_folder(self, spec: StageSpec) -> Path:
        """Where this key is computed; it outlives a crash, so that a stage can resume in it."""
        folder = self.root / "work" / f"{spec.stage}-{spec.key}"
        (folder / "out").mkdir(parents=True, exist_ok=True)
        return folder

    def commit(self, spec: StageSpec, work: Path, seconds: float) -> ArtifactRef:
        """Move `work/out` into place under its key, the record last, and drop the work folder.

        Raises:
            StageError: the disk is full or cannot be written; `work` stays.
        """
        try:
            return self._commit(spec, work, seconds)
        except OSError as error:
            raise StageError(
                f"what stage '{spec.stage}' made could not be kept in {self}: {error.strerror}; "
                f"free some space and run again (it still lies in '{work}')"
            ) from None

    def _commit(self, spec: StageSpec, work: Path, seconds: float) -> ArtifactRef:
        out = work / "out"
        names = sorted(p.relative_to(out).as_posix() for p in out.rglob("*") if p.is_file())
        record = Record(
            stage=spec.stage,
            key=spec.key,
            version=spec.version,
            identity=spec.identity,
            config=spec.config,
            inputs={name: ref.key for name, ref in spec.inputs.items()},
            files={name: digest_file(out / name) for name in names if name != RECORD},
            seconds=round(seconds, 3),
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            made_by={"raft": __version__, "python": platform.python_version()},
        )
        write_record(out, record)
        made = self._place(out, record)
        shutil.rmtree(work)
        return made

    def records(self, stage: str | None = None) -> Iterator[Record]:
        """The records of all artifacts, or of one stage's; their files are not looked at."""
        for path in sorted((self.root / "artifacts").glob(f"{stage or '*'}/*")):
            record = read_record(path)
            if record is not None and record.is_of(path.parent.name, path.name):
                yield record

    def verify(self, record: Record) -> bool:
        """Whether every file is what was recorded."""
        return is_intact(self._folder(record.stage, record.key), record)

    def remove(self, record: Record) -> bool:
        """Remove an artifact, its record first; False, and nothing done, while a run holds it."""
        with self._hold(record.stage, record.key, wait=False) as held:
            if held:
                self._discard(self._folder(record.stage, record.key))
        return held

    def without_record(self) -> list[Path]:
        """Folders among the artifacts that no record makes one: torn, altered or not RAFT's."""
        folders = (self.root / "artifacts").glob("*/*")
        records = ((folder, read_record(folder)) for folder in folders)
        return sorted(f for f, r in records if r is None or not r.is_of(f.parent.name, f.name))

    def abandoned(self, before: datetime) -> list[Path]:
        """Work folders of stages that have not gone on since then, and artifacts without record."""
        folders = [*(self.root / "work").glob("*"), *self.without_record()]
        return sorted(f for f in folders if f.stat().st_mtime < before.timestamp())

    def discard(self, folder: Path) -> bool:
        """Remove what was abandoned; False, and nothing done, while a stage is at it."""
        stage, _, key = folder.name.removesuffix(DOWNLOAD).rpartition("-")
        if folder.parent.parent.name == "artifacts":
            stage, key = folder.parent.name, folder.name
        with self._hold(stage, key, wait=False) as held:
            if held:
                shutil.rmtree(folder)
        return held

    def __str__(self) -> str:
        return f"'{self.root}'"

    def _find(self, stage: str, key: str) -> ArtifactRef | None:
        folder = self._folder(stage, key)
        record = read_record(folder)
        if record is None or not record.is_of(stage, key) or not is_intact(folder, record):
            return None
        with suppress(OSError):  # a store that may only be read
            os.utime(folder / RECORD)  # when it was last used
        return ArtifactRef(stage=stage, key=key, path=str(folder))

    @contextmanager
    def _hold(self, stage: str, key: str, wait: bool = True) -> Iterator[bool]:
        """Hold the key's lock; without `wait` False where another process has it.

        Raises:
            InputError: the store cannot be written.
        """
        how = fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB)
        with self._locked(f"{stage}-{key}", how) as held:
            yield held

    @contextmanager
    def _locked(self, name: str, how: int) -> Iterator[bool]:
        path = self.root / "locks" / f"{name}.lock"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            lock = open(path, "w")  # noqa: SIM115 (closed below, where its errors are others)
        except OSError as error:
            raise InputError(
                f"store {self} cannot be written: {error.strerror} ('{path}'); name another "
                "folder (runtime.store, or RAFT_STORE)"
            ) from None
        with lock as handle:
            try:
                fcntl.flock(handle, how)
            except BlockingIOError:
                yield False
            else:
                yield True

    def _place(self, folder: Path, record: Record) -> ArtifactRef:
        """Move a complete folder to its key's place, in one step."""
        target = self._folder(record.stage, record.key)
        target.parent.mkdir(parents=True, exist_ok=True)
        self._discard(target)
        folder.rename(target)
        return ArtifactRef(stage=record.stage, key=record.key, path=str(target))

    def _discard(self, folder: Path) -> None:
        """Take a folder out of sight in one step, and then remove it."""
        if folder.exists():
            gone = self.root / "work" / f"discarded-{uuid.uuid4().hex}"
            gone.parent.mkdir(exist_ok=True)
            folder.rename(gone)
            shutil.rmtree(gone)

    def _folder(self, stage: str, key: str) -> Path:
        return self.root / "artifacts" / stage / key


def read_record(folder: Path) -> Record | None:
    """The record of an artifact folder, or None where there is no readable one."""
    try:
        return parse_record((folder / RECORD).read_bytes())
    except OSError:
        return None


def parse_record(text: bytes) -> Record | None:
    """The record of this JSON, or None where it is none."""
    try:
        return Record.model_validate_json(text)
    except ValueError:
        return None


def is_intact(folder: Path, record: Record) -> bool:
    """Whether the folder holds every recorded file with its recorded digest."""
    return all(
        (folder / name).is_file() and digest_file(folder / name) == digest
        for name, digest in record.files.items()
    )


def write_record(folder: Path, record: Record) -> None:
    """Write `record.json` durably and in one step; it makes the folder an artifact."""
    path = folder / RECORD
    partial = path.with_suffix(".partial")
    with open(partial, "w") as handle:
        handle.write(record.model_dump_json(indent=1))
        handle.flush()
        os.fsync(handle.fileno())
    partial.rename(path)


class Stopwatch:
    """Seconds since it was made."""

    def __init__(self) -> None:
        self._start = time.monotonic()

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._start
