"""A store that several machines share: artifacts pass between them through one fsspec address."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from raft_core.artifacts import (
    DOWNLOAD,
    ArtifactRef,
    Record,
    StageSpec,
    Store,
    is_intact,
    read_record,
    write_record,
)
from raft_core.config import local_path
from raft_core.errors import InputError
from raft_core.remote_artifacts import RemoteArtifacts
from raft_core.runtime import RuntimeConfig


def open_store(runtime: RuntimeConfig, address: str | None = None) -> Store:
    """The store of this machine: a folder, or one below home that is shared through a URL.

    An `address` wins over what the settings and the environment name.

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
    return SharedStore(runtime.home_folder / "store", address)


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

    def __init__(self, root: str | Path, url: str) -> None:
        super().__init__(root)
        self._remote = RemoteArtifacts(url)

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

    def verify(self, record: Record) -> bool:
        """Whether what is here and what is at the URL is what was recorded, where it is at all."""
        here = read_record(self._folder(record.stage, record.key)) is None or super().verify(record)
        if self._remote.record(record.stage, record.key) is None:
            return here
        self.root.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=self.root) as folder:
            copied = self._remote.download(record, Path(folder))
            return here and copied and is_intact(Path(folder), record)

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
        return found

    def _download(self, record: Record) -> ArtifactRef | None:
        folder = self.root / "work" / f"{record.stage}-{record.key}{DOWNLOAD}"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        if self._remote.download(record, folder) and is_intact(folder, record):
            write_record(folder, record)
            return self._place(folder, record)
        shutil.rmtree(folder)
        return None
