"""Content-addressed artifacts: what a stage made, under a key of everything that decides it.

The store is the only authority on what is done. An artifact is a folder whose `record.json` is
written last and names the digest of every file; without a valid record it does not exist.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from raft_core.config.base import FrozenConfig, digest_file
from raft_core.errors import InputError, StageError
from raft_core.store.locks import Locks
from raft_core.store.record import (
    RECORD,
    WHOLE_ARTIFACT,
    Record,
    files_in,
    is_intact,
    parts_digest,
    read_record,
    stage_key,
    write_record,
)
from raft_core.version import __version__

# Its file says that a folder, or what stands below an address, is a store.
MARKER = "raft-store.txt"
MARKER_TEXT = "Artifacts of RAFT stand below this address.\n"
DOWNLOAD = ".download"
USERS = "users"
PLAIN = re.compile(r"[\w-]+")
# It becomes a part of paths.
PlainName = Annotated[str, Field(pattern=r"^[\w-]+$")]
KEY = re.compile(r"[0-9a-f]{24}")


class ArtifactRef(FrozenConfig):
    """A committed artifact: enough to be an input of the next stage.

    `files` maps relative paths to sha256; where it is empty the key stands for the content.
    """

    stage: PlainName
    key: PlainName
    path: str
    files: dict[str, str] = {}

    @property
    def folder(self) -> Path:
        return Path(self.path)


class StageSpec(FrozenConfig):
    """One stage to run: its resolved configuration, its inputs, and how to execute it.

    `identity` is the fingerprint of `config`; `reads` maps an input to the parts of it that the
    stage reads, as glob patterns; `runtime` holds what cannot change the result.
    """

    stage: PlainName
    version: int
    config: dict[str, Any]
    identity: dict[str, Any]
    inputs: dict[str, ArtifactRef] = {}
    reads: dict[str, tuple[str, ...]] = {}
    runtime: dict[str, Any] = {}

    @property
    def key(self) -> str:
        """sha256 over stage, version, identity and the content of what is read, as hex."""
        return stage_key(self.stage, self.version, self.identity, self.read)

    @property
    def read(self) -> dict[str, str]:
        """Input -> digest of the parts that the stage reads of it."""
        return {
            name: parts_digest(ref.key, ref.files, self.reads.get(name, WHOLE_ARTIFACT))
            for name, ref in self.inputs.items()
        }


class Store:
    """Artifacts, locks and work folders below one root on a local file system."""

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root).expanduser().resolve()
        self._locks = Locks(self.root / "locks")

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
        """Return the same stage, and so the same key, with its inputs fetched to this machine.

        Raises:
            StageError: an input cannot be fetched, or holds something else here.
        """
        fetched = {name: self.fetch(ref.stage, ref.key) for name, ref in spec.inputs.items()}
        here = spec.model_copy(update={"inputs": fetched})
        for name, digest in here.read.items():
            if digest != spec.read[name]:
                ref = spec.inputs[name]
                raise StageError(
                    f"input '{name}' of stage '{spec.stage}' ({ref.stage}/{ref.key}) holds other "
                    f"content in {self} than on the machine that asks for it; remove it here with "
                    "`artifacts verify --repair`, or by hand, and run again"
                )
        return here

    def peek(self, spec: StageSpec) -> ArtifactRef | None:
        """Return the artifact that this machine has a record of, without reading its files."""
        folder = self._folder(spec.stage, spec.key)
        record = read_record(folder)
        if record is None or not record.is_of(spec.stage, spec.key):
            return None
        return ArtifactRef(stage=spec.stage, key=spec.key, path=str(folder), files=record.files)

    @contextmanager
    def lock(self, spec: StageSpec, on_wait: Callable[[], None] | None = None) -> Iterator[None]:
        """Hold the key against other processes; the kernel frees it when the holder dies.

        `on_wait` is told once that another process is making it.
        """
        with self._hold(spec.stage, spec.key, on_wait=on_wait):
            yield

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """As long as it lasts, nobody of this machine is `alone`: a run keeps what it has found."""
        with self._locks.hold(USERS, shared=True):
            self._mark()
            yield

    @contextmanager
    def alone(self) -> Iterator[bool]:
        """Whether no run of this machine uses the store; none begins before this ends."""
        with self._locks.hold(USERS, wait=False) as held:
            yield held

    def require_store(self) -> None:
        """
        Raises:
            InputError: no run has used this folder: what lies in it may be somebody else's.
        """
        if not (self.root / MARKER).is_file():
            raise InputError(
                f"{self} is not known as a store: it has no {MARKER}, which the first run puts "
                "there; check the address (--store, or RAFT_STORE)"
            )

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
        self._mark()
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
                f"free some space or mend the folder, and run again (it still lies in '{work}')"
            ) from None

    def _commit(self, spec: StageSpec, work: Path, seconds: float) -> ArtifactRef:
        out = work / "out"
        record = Record(
            stage=spec.stage,
            key=spec.key,
            version=spec.version,
            identity=spec.identity,
            config=spec.config,
            inputs={name: ref.key for name, ref in spec.inputs.items()},
            read=spec.read,
            files={name: digest_file(out / name) for name in sorted(files_in(out))},
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

    def damage(self, record: Record) -> str:
        """Where a file of it is not what was recorded, in words; empty where all are."""
        folder = self._folder(record.stage, record.key)
        return "" if is_intact(folder, record) else "its files are not what was recorded"

    def repair(self, record: Record) -> str:
        """Remove what is damaged, so that it counts as absent everywhere; says what was done."""
        return "removed" if self.remove(record) else "left, a run holds it"

    def size_of(self, record: Record) -> int:
        """Bytes of its files, as far as they are on this machine."""
        folder = self._folder(record.stage, record.key)
        return sum(f.lstat().st_size for f in folder.rglob("*") if f.is_file())

    def file_of(self, record: Record, name: str) -> bytes | None:
        """A file's content, or None where it cannot be read."""
        with suppress(OSError):
            return (self._folder(record.stage, record.key) / name).read_bytes()
        return None

    def remove(self, record: Record) -> bool:
        """Remove an artifact, its record first; False, and nothing done, while a run holds it."""
        with self.removing(record.stage, record.key) as held:
            if held:
                self._discard(self._folder(record.stage, record.key))
        return held

    @contextmanager
    def removing(self, stage: str, key: str) -> Iterator[bool]:
        """Hold a key that is to go, with its lock; False while another process holds it."""
        with self._hold(stage, key, wait=False) as held:
            yield held
            if held:
                self._locks.forget(lock_name(stage, key))

    def __str__(self) -> str:
        return f"'{self.root}'"

    def _find(self, stage: str, key: str) -> ArtifactRef | None:
        folder = self._folder(stage, key)
        record = read_record(folder)
        if record is None or not record.is_of(stage, key) or not is_intact(folder, record):
            return None
        with suppress(OSError):  # a store that may only be read
            os.utime(folder / RECORD)  # when it was last used
        return ArtifactRef(stage=stage, key=key, path=str(folder), files=record.files)

    @contextmanager
    def _hold(
        self,
        stage: str,
        key: str,
        wait: bool = True,
        on_wait: Callable[[], None] | None = None,
    ) -> Iterator[bool]:
        """Hold the key's lock; without `wait` False where another process has it.

        Raises:
            InputError: the store cannot be written.
        """
        with self._locks.hold(lock_name(stage, key), wait=wait, on_wait=on_wait) as held:
            yield held

    def _mark(self) -> None:
        marker = self.root / MARKER
        with suppress(OSError):  # a store that may only be read
            if not marker.is_file():
                marker.write_text(MARKER_TEXT)

    def _place(self, folder: Path, record: Record) -> ArtifactRef:
        """Move a complete folder to its key's place, in one step."""
        target = self._folder(record.stage, record.key)
        target.parent.mkdir(parents=True, exist_ok=True)
        self._discard(target)
        folder.rename(target)
        return ArtifactRef(stage=record.stage, key=record.key, path=str(target), files=record.files)

    def _discard(self, folder: Path) -> None:
        """Take a folder out of sight in one step, and then remove it."""
        if folder.exists():
            gone = self.root / "work" / f"discarded-{uuid.uuid4().hex}"
            gone.parent.mkdir(exist_ok=True)
            folder.rename(gone)
            shutil.rmtree(gone)

    def _folder(self, stage: str, key: str) -> Path:
        return self.root / "artifacts" / stage / key


def lock_name(stage: str, key: str) -> str:
    return f"{stage}-{key}"


class Stopwatch:
    """Seconds since it was made."""

    def __init__(self) -> None:
        self._start = time.monotonic()

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._start
