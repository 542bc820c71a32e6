"""Artifacts at an fsspec address.

Below the address stand, as in a folder, `artifacts/STAGE/KEY/record.json`, and beside each record a
folder with its files. That folder is named by the digests of the files: what two machines upload
under one key never mixes, and a record, which is written last, always names whole files.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path, PurePosixPath
from typing import Any

from raft_core.errors import InputError, StageError
from raft_core.store.artifacts import KEY, MARKER, MARKER_TEXT, PLAIN, ArtifactRef
from raft_core.store.record import RECORD, Record, names_itself, parse_record, read_record
from raft_core.store.remote_files import connect, reason, remove_exactly, written

RECORDS_AT_ONCE = 256
# A record is written again when it was found and is older: other machines see that it is used.
TOUCHED_EVERY = timedelta(days=1)
PASSWORD = re.compile(r"//[^/]*:.*@")


class RemoteArtifacts:
    """The artifacts at an fsspec URL. Every error names the URL and holds no secret.

    Whoever can write there chooses the names: those that no artifact has are passed over, and no
    call expands a name. fsspec's `rm`, `cat`, `get` and `put` of a text take it for a glob.

    Credentials are read by the file system itself, those of S3 from the variables of AWS, an
    endpoint among them. Retries are botocore's and s3fs's, bounded (AWS_MAX_ATTEMPTS).
    """

    def __init__(self, url: str, writes: bool = True) -> None:
        if PASSWORD.search(url):
            raise InputError("store: the URL holds a password; give credentials in the environment")
        self.url = url
        self._fs, root = connect(url)
        self._root = root.rstrip("/")
        self._modified: dict[str, datetime] = {}
        # STAGE/KEY whose records nobody can read, and those that another release can.
        self.torn: set[str] = set()
        self._foreign: set[str] = set()
        if writes:
            self._check_access()
        else:
            self._require_store()

    def __str__(self) -> str:
        return f"the store '{self.url}'"

    def record(self, stage: str, key: str) -> Record | None:
        """The record of this key, or None where there is no readable one.

        Raises:
            StageError: the store cannot be read.
        """
        try:
            text = self._fs.cat_file(f"{self._folder(stage, key)}/{RECORD}")
        except FileNotFoundError:
            return None
        except Exception as error:
            raise self._failure(f"reading {stage}/{key}", error) from None
        record = parse_record(text)
        return record if record and record.is_of(stage, key) else None

    def records(self, stage: str | None) -> Iterator[Record]:
        """The records of all artifacts, or of one stage's.

        Raises:
            StageError: the store cannot be read.
        """
        listed = self._listed(stage)
        names = [name for name in listed if _place(name, self._root)[2] == RECORD]
        for start in range(0, len(names), RECORDS_AT_ONCE):
            some = names[start : start + RECORDS_AT_ONCE]
            try:
                texts = self._fs.cat_ranges(some, None, None, on_error="return")
            except Exception as error:
                raise self._failure("reading records", error) from None
            for name, text in zip(some, texts, strict=True):
                if isinstance(text, FileNotFoundError):  # removed meanwhile
                    continue
                if isinstance(text, Exception):
                    raise self._failure(f"reading '{name}'", text)
                record, (kind, key, _) = parse_record(text), _place(name, self._root)
                place = f"{kind}/{key}"
                self.torn.discard(place)
                if record is None and names_itself(text, kind, key):
                    self._foreign.add(place)
                elif record is None or not record.is_of(kind, key):
                    self.torn.add(place)
                else:
                    self._modified[record.name] = written(listed[name])
                    yield record

    def last_used(self, record: Record) -> datetime | None:
        """When a machine last found or made it, to a day; None where it is not there."""
        if record.name in self._modified:
            return self._modified[record.name]
        try:
            return written(self._fs.info(f"{self._folder(record.stage, record.key)}/{RECORD}"))
        except FileNotFoundError:
            return None
        except Exception as error:
            raise self._failure(f"reading {record.name}", error) from None

    def touch(self, record: Record) -> None:
        """Note that it is used, by writing its record again where that is older than a day.

        What is only read from stays as it is.
        """
        path = f"{self._folder(record.stage, record.key)}/{RECORD}"
        with suppress(Exception):
            if datetime.now(UTC) - written(self._fs.info(path)) > TOUCHED_EVERY:
                self._fs.pipe_file(path, self._fs.cat_file(path))

    def forget(self, record: Record) -> bool:
        """Remove the record alone: what it names is damaged, and counts as absent from now on.

        One that another machine has written meanwhile stays. False where nothing may be removed.
        """
        with suppress(Exception):
            if self.record(record.stage, record.key) == record:
                self._fs.rm_file(f"{self._folder(record.stage, record.key)}/{RECORD}")
            return True
        return False

    def unfinished(self, before: datetime) -> list[str]:
        """STAGE/KEY of uploads without a readable record that have not gone on since then.

        Raises:
            StageError: the store cannot be read.
        """
        newest: dict[str, datetime] = {}
        whole = {record.name for record in self.records(None)} | self._foreign
        for path, about in self._listed(None).items():
            stage, key, _ = _place(path, self._root)
            place = f"{stage}/{key}"
            newest[place] = max(written(about), newest.get(place, written(about)))
        return sorted(p for p, when in newest.items() if p not in whole and when < before)

    def discard(self, place: str) -> None:
        """Remove what `unfinished` named.

        Raises:
            StageError: the store cannot be written.
        """
        self._remove_files(place)

    def file_of(self, record: Record, name: str) -> bytes | None:
        """A file's content, or None where it cannot be read."""
        (source,) = self._pairs(record, Path(), [name])[1]
        with suppress(Exception):
            content: bytes = self._fs.cat_file(source)
            return content
        return None

    def remove(self, record: Record) -> None:
        """Remove an artifact, its record first.

        Raises:
            StageError: the store cannot be written.
        """
        folder = self._folder(record.stage, record.key)
        try:
            if not self._fs.exists(f"{folder}/{RECORD}"):
                return
            self._fs.rm_file(f"{folder}/{RECORD}")
        except FileNotFoundError:
            return
        except Exception as error:
            raise self._failure(f"removing {record.name}", error) from None
        self._remove_files(record.name)

    def upload(self, artifact: ArtifactRef) -> None:
        """Copy an artifact's files, several at once, and then its record.

        Raises:
            StageError: the store cannot be written.
        """
        record = read_record(artifact.folder)
        if record is None:
            raise StageError(f"artifact '{artifact.path}' has lost its record")
        sources, targets = self._pairs(record, artifact.folder)
        target = f"{self._folder(record.stage, record.key)}/{RECORD}"
        try:
            self._fs.put(sources, targets)
            self._fs.put_file(str(artifact.folder / RECORD), target)
        except Exception as error:
            raise self._failure(f"upload of '{artifact.path}'", error) from None

    def download(self, record: Record, folder: Path) -> bool:
        """Copy the recorded files into `folder`; False if one is missing. Digests are not checked.

        Raises:
            StageError: the store cannot be read, or a name would lead out of `folder`.
        """
        for name in record.files:
            if not stays_inside(name):
                raise StageError(
                    f"{self}: the record of {record.stage}/{record.key} names {name!r}, a file "
                    "outside its artifact; refused. If you trust who writes there, remove "
                    f"artifacts/{record.stage}/{record.key}"
                )
        targets, sources = self._pairs(record, folder)
        try:
            self._fs.get(sources, targets)
        except FileNotFoundError:
            return False
        except Exception as error:
            raise self._failure(f"download of {record.stage}/{record.key}", error) from None
        return True

    def _remove_files(self, place: str) -> None:
        files = self._listed(place)
        try:
            remove_exactly(self._fs, f"{self._root}/artifacts/{place}", files)
        except FileNotFoundError:
            return
        except Exception as error:
            raise self._failure(f"removing {place}", error) from None

    def _listed(self, below: str | None) -> Mapping[str, Mapping[str, Any]]:
        """Path -> what the file system tells of it, of all files of artifacts below a place."""
        where = f"{self._root}/artifacts" + (f"/{below}" if below else "")
        try:
            found: dict[str, Mapping[str, Any]] = self._fs.find(where, detail=True)
        except FileNotFoundError:
            return {}
        except Exception as error:
            raise self._failure("listing artifacts", error) from None
        return {path: found[path] for path in sorted(found) if _is_ours(path, self._root)}

    def _pairs(
        self, record: Record, folder: Path, names: list[str] | None = None
    ) -> tuple[list[str], list[str]]:
        """Paths of the artifact's files here, and there."""
        listing = json.dumps(record.files, sort_keys=True)
        contents = f"files-{hashlib.sha256(listing.encode()).hexdigest()[:16]}"
        there = f"{self._folder(record.stage, record.key)}/{contents}"
        names = list(record.files) if names is None else names
        return [str(folder / name) for name in names], [f"{there}/{name}" for name in names]

    def _folder(self, stage: str, key: str) -> str:
        return f"{self._root}/artifacts/{stage}/{key}"

    def _check_access(self) -> None:
        """Write one small file and read it back: every run will do both.

        Raises:
            InputError: either failed.
        """
        path = f"{self._root}/{MARKER}"
        try:
            self._fs.pipe_file(path, MARKER_TEXT.encode())
            self._fs.cat_file(path)
        except Exception as error:
            raise InputError(
                f"store '{self.url}' cannot be read and written: {reason(error)}; check the "
                "address, the credentials and, for S3, AWS_ENDPOINT_URL"
            ) from None

    def _require_store(self) -> None:
        """Read what a run wrote: commands that look at a store need no more, and make none.

        Raises:
            InputError: it is not there, or cannot be read.
        """
        try:
            self._fs.cat_file(f"{self._root}/{MARKER}")
        except FileNotFoundError:
            raise InputError(
                f"store '{self.url}': no run has used this address, there is no {MARKER}; check it "
                "(--store, or RAFT_STORE)"
            ) from None
        except Exception as error:
            raise InputError(
                f"store '{self.url}' cannot be read: {reason(error)}; check the address, the "
                "credentials and, for S3, AWS_ENDPOINT_URL"
            ) from None

    def _failure(self, action: str, error: Exception) -> StageError:
        return StageError(f"{self}: {action} failed: {reason(error)}")


def _place(path: str, root: str) -> tuple[str, str, str]:
    """Stage, key and name of a file below the artifacts."""
    stage, _, rest = (
        path[path.index(f"{root}/artifacts/") :].removeprefix(f"{root}/artifacts/").partition("/")
    )
    key, _, name = rest.partition("/")
    return stage, key, name


def _is_ours(path: str, root: str) -> bool:
    """Whether an artifact may have this file, by its name."""
    if f"{root}/artifacts/" not in path:
        return False
    stage, key, name = _place(path, root)
    named = PLAIN.fullmatch(stage) is not None and KEY.fullmatch(key) is not None
    return named and (name == RECORD or stays_inside(name))


def stays_inside(name: str) -> bool:
    """Whether a recorded name is a plain relative path, and not the record's own."""
    path = PurePosixPath(name)
    plain = bool(path.parts) and str(path) == name and name.isprintable() and "\\" not in name
    return plain and not path.is_absolute() and ".." not in path.parts and name != RECORD
