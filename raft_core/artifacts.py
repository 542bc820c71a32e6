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
import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import Field

from raft_core import __version__
from raft_core.config import FrozenConfig, digest_file

RECORD = "record.json"
KEY_DIGITS = 24


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
        parts = {
            "stage": self.stage,
            "version": self.version,
            "identity": self.identity,
            "inputs": {name: ref.key for name, ref in self.inputs.items()},
        }
        canonical = json.dumps(parts, sort_keys=True, separators=(",", ":"), allow_nan=False)
        return hashlib.sha256(canonical.encode()).hexdigest()[:KEY_DIGITS]


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


class Store:
    """Artifacts, locks and work folders below one root on a local file system."""

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root).expanduser().resolve()

    def find(self, spec: StageSpec) -> ArtifactRef | None:
        """The artifact of this key, if it is complete and its files are what was recorded."""
        folder = self._folder(spec)
        record = read_record(folder)
        if record is None or record.key != spec.key:
            return None
        for name, digest in record.files.items():
            path = folder / name
            if not path.is_file() or digest_file(path) != digest:
                return None
        return ArtifactRef(stage=spec.stage, key=spec.key, path=str(folder))

    @contextmanager
    def lock(self, spec: StageSpec) -> Iterator[None]:
        """Hold the key against other processes; the kernel frees it when the holder dies."""
        path = self.root / "locks" / f"{spec.stage}-{spec.key}.lock"
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "w") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield

    def work_folder(self, spec: StageSpec) -> Path:
        """Where this key is computed; it outlives a crash, so that a stage can resume in it."""
        folder = self.root / "work" / f"{spec.stage}-{spec.key}"
        (folder / "out").mkdir(parents=True, exist_ok=True)
        return folder

    def commit(self, spec: StageSpec, work: Path, seconds: float) -> ArtifactRef:
        """Move `work/out` into place under its key, the record last, and drop the work folder."""
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
        target = self._folder(spec)
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.exists():
            damaged = self.root / "work" / f"damaged-{uuid.uuid4().hex}"
            target.rename(damaged)
            shutil.rmtree(damaged)
        _write_durably(out / RECORD, record.model_dump_json(indent=1))
        out.rename(target)
        shutil.rmtree(work)
        return ArtifactRef(stage=spec.stage, key=spec.key, path=str(target))

    def _folder(self, spec: StageSpec) -> Path:
        return self.root / "artifacts" / spec.stage / spec.key


def read_record(folder: Path) -> Record | None:
    """The record of an artifact folder, or None where there is no readable one."""
    try:
        return Record.model_validate_json((folder / RECORD).read_text())
    except (OSError, ValueError):
        return None


def _write_durably(path: Path, text: str) -> None:
    partial = path.with_suffix(".partial")
    with open(partial, "w") as handle:
        handle.write(text)
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
