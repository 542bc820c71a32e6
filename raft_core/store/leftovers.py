"""What lies in a store's folder and is no artifact: unfinished, torn, or another release's."""

from __future__ import annotations

import re
import shutil
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from raft_core.store.artifacts import KEY, Store
from raft_core.store.record import is_foreign, read_record

# A stage at work or on its way here, and what is on its way out or being verified.
AT_WORK = re.compile(r"(\w+)-([0-9a-f]{24})(\.download)?")
PASSING = re.compile(r"(discarded|verified)-[0-9a-f]{32}")


def without_record(root: Path) -> list[Path]:
    """Folders of keys that no record makes an artifact: torn or altered ones."""
    found = []
    for folder in (root / "artifacts").glob("*/*"):
        if KEY.fullmatch(folder.name) and folder.is_dir() and not is_foreign(folder):
            record = read_record(folder)
            if record is None or not record.is_of(folder.parent.name, folder.name):
                found.append(folder)
    return sorted(found)


def of_other_releases(root: Path) -> list[Path]:
    """Folders whose record this release cannot read."""
    return sorted(folder for folder in (root / "artifacts").glob("*/*") if is_foreign(folder))


def abandoned(root: Path, before: datetime) -> list[Path]:
    """What stages have left unfinished and not gone on with since then."""
    at_work = (root / "work").glob("*")
    ours = [f for f in at_work if AT_WORK.fullmatch(f.name) or PASSING.fullmatch(f.name)]
    folders = [*ours, *without_record(root)]
    return sorted(f for f in folders if last_touched(f) < before.timestamp())


def discard(store: Store, folder: Path) -> bool:
    """Remove what was abandoned; False, and nothing done, while a stage is at it."""
    named = AT_WORK.fullmatch(folder.name)
    stage, key = (named[1], named[2]) if named else (folder.parent.name, folder.name)
    with store.removing(stage, key) as held:
        if held:
            shutil.rmtree(folder, ignore_errors=True)
    return held


def last_touched(folder: Path) -> float:
    """When anything in a folder was last written: a stage at work touches files far below it."""
    newest = 0.0
    for path in (folder, *folder.rglob("*")):
        with suppress(FileNotFoundError):  # it goes on meanwhile
            newest = max(newest, path.lstat().st_mtime)
    return newest
