"""A store that several machines share: artifacts pass between them through one fsspec address."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from raft_core.config.base import local_path
from raft_core.config.runtime import RuntimeConfig
from raft_core.errors import InputError
from raft_core.store.artifacts import DOWNLOAD, ArtifactRef, StageSpec, Store
from raft_core.store.record import Record, is_intact, read_record, write_record
from raft_core.store.remote_artifacts import RemoteArtifacts

DOWNLOADS = 2  # what arrived altered may be right at the second try


def open_store(runtime: RuntimeConfig, address: str | None = None, writes: bool = True) -> Store:
    """The store of this machine: a folder, or one below home that is shared through a URL.

    An `address` wins over what the settings and the environment name. Without `writes` nothing is
    written at the URL, and a run must have used it.

    Raises:
        InputError: the URL cannot be used or reached, or the folder is none.
    """
    address = address or runtime.store_address
    if "://" not in address:
        folder = local_path(address, "store")
        if folder.exists() and not folder.is_dir():
            raise InputError(
                f"store '{address}' is no folder; name another one (runtime.store, or RAFT_STORE)"
            )
        return Store(address)
    return SharedStore(runtime.home_folder / "store", address, writes)


class SharedStore(Store):
    """A local store whose artifacts are also kept at an fsspec URL, where other machines find them.

    Stages work in the local folder and read from it. What only the URL has is downloaded and its
    digests are checked here; what is torn or altered there counts as absent and is replaced by the
    next commit. Locks are files of the local folder and hold on this machine alone: two machines
    may compute one key at once, which wastes work and harms nothing, because either's artifact is
    the key's and the record that is written last wins.

    Raises:
        InputError: the URL cannot be used, read or written.
    """

    def __init__(self, root: str | Path, url: str, writes: bool = True) -> None:
        super().__init__(root)
        self._remote = RemoteArtifacts(url, writes)

    def commit(self, spec: StageSpec, work: Path, seconds: float) -> ArtifactRef:
        """Commit here, then upload: the files first, the record last.

        Raises:
            StageError: the upload failed; what was made stays here, and `find` uploads it.
        """
        made = super().commit(spec, work, seconds)
        self._remote.upload(made)
        return made

    def records(self, stage: str | None = None) -> Iterator[Record]:
        """Those that either side has."""
        found = {record.name: record for record in super().records(stage)}
        found |= {record.name: record for record in self._remote.records(stage)}
        yield from (found[name] for name in sorted(found))

    def last_used(self, record: Record) -> datetime:
        """When any machine last found or made it, to a day."""
        there = self._remote.last_used(record)
        here = super().last_used(record)
        return max(here, there) if there else here

    def damage(self, record: Record) -> str:
        """Where a file is not what was recorded: here, at the URL, or both; each by its record."""
        here = read_record(self._folder(record.stage, record.key))
        there = self._remote.record(record.stage, record.key)
        found = []
        if here is not None and super().damage(here):
            found.append("its files here are not what was recorded")
        if there is not None and not self._is_whole_there(there):
            found.append(f"its files at {self._remote} are not what was recorded")
        return " and ".join(found)

    def repair(self, record: Record) -> str:
        """Make it whole from the side that is; where neither is, it counts as absent."""
        with self._hold(record.stage, record.key, wait=False) as held:
            if not held:
                return "left, a run holds it"
            there = self._remote.record(record.stage, record.key)
            damaged = there is not None and not self._is_whole_there(there)
            if there is not None and damaged and not self._remote.forget(there):
                return "left, nothing can be removed at the address"
            found = self._find(record.stage, record.key)
            if found is None:
                self._discard(self._folder(record.stage, record.key))
        return "removed" if found is None else "whole on both sides again"

    def file_of(self, record: Record, name: str) -> bytes | None:
        """A file's content from either side, or None where it cannot be read."""
        return super().file_of(record, name) or self._remote.file_of(record, name)

    def require_store(self) -> None:
        """Nothing to ask: a URL that no run has used was not opened."""

    @property
    def torn_there(self) -> list[str]:
        """STAGE/KEY of records at the URL, of those that `records` went through, that are torn."""
        return sorted(self._remote.torn)

    def unfinished_uploads(self, before: datetime) -> list[str]:
        """STAGE/KEY of what was begun at the URL before then and has no record."""
        return self._remote.unfinished(before)

    def discard_upload(self, place: str) -> bool:
        self._remote.discard(place)
        return True

    def remove(self, record: Record) -> bool:
        """Remove it here and at the URL, where other machines may be using it."""
        removed = super().remove(record)
        if removed:
            self._remote.remove(record)
        return removed

    def __str__(self) -> str:
        return f"{super().__str__()} and {self._remote}"

    def _find(self, stage: str, key: str) -> ArtifactRef | None:
        """The artifact here, downloaded or uploaded if only one side has it; hold its lock."""
        found = super()._find(stage, key)
        record = self._remote.record(stage, key)
        if found is None:
            return None if record is None else self._download(record)
        if record is None:
            self._remote.upload(found)
        else:
            self._remote.touch(record)
        return found

    def _download(self, record: Record) -> ArtifactRef | None:
        """Bring it here. What is damaged there loses its record: whoever has it uploads it."""
        folder = self.root / "work" / f"{record.stage}-{record.key}{DOWNLOAD}"
        for _ in range(DOWNLOADS):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            if self._remote.download(record, folder) and is_intact(folder, record):
                write_record(folder, record)
                self._remote.touch(record)
                return self._place(folder, record)
        shutil.rmtree(folder)
        self._remote.forget(record)
        return None

    def _is_whole_there(self, record: Record) -> bool:
        with self._passing_folder("verified") as folder:
            return self._remote.download(record, folder) and is_intact(folder, record)

    @contextmanager
    def _passing_folder(self, name: str) -> Iterator[Path]:
        folder = self.root / "work" / f"{name}-{uuid.uuid4().hex}"
        folder.mkdir(parents=True)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
