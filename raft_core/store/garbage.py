"""What of a store is old and unused: artifacts, unfinished stages, uploads that were broken off."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path

from raft_core.store.artifacts import Store
from raft_core.store.leftovers import abandoned, discard
from raft_core.store.record import Record
from raft_core.store.shared import SharedStore

# A promoted model is compared with the next one: what a decision stands on is no waste.
DECIDES = "promote"
DECISION_FILE = "decision.json"


@dataclass(frozen=True, slots=True)
class Waste:
    """One thing to remove; `remove` tells whether it could be. A size is known of folders here."""

    name: str
    size: int
    remove: Callable[[], bool]


def waste(
    store: Store, before: datetime, keep: set[str], refused: bool
) -> tuple[list[Waste], list[Waste]]:
    """Artifacts that nothing to be kept is made of, and what was left unfinished before then.

    `keep` names artifacts. With `refused`, what only a refusal stands on is no longer kept.
    """
    records = {record.name: record for record in store.records()}
    keep |= {name for name, record in records.items() if store.last_used(record) >= before}
    decisions = {r.name for r in records.values() if r.stage == DECIDES}
    if refused:
        decisions -= {name for name in decisions if is_refusal(store, records[name])}
    artifacts = [
        Waste(name, store.size_of(records[name]), partial(store.remove, records[name]))
        for name in unused(records, keep | decisions)
    ]
    return artifacts, list(unfinished(store, before))


def unused(records: Mapping[str, Record], keep: set[str]) -> list[str]:
    """Names of artifacts that nothing to be kept is made of."""
    by_key = {record.key: record for record in records.values()}
    waiting = [records[name] for name in keep]
    used: set[str] = set()
    while waiting:
        record = waiting.pop()
        if record.name not in used:
            used.add(record.name)
            waiting += [by_key[key] for key in record.inputs.values() if key in by_key]
    return sorted(records.keys() - used)


def unfinished(store: Store, before: datetime) -> Iterator[Waste]:
    for folder in abandoned(store.root, before):
        name = folder.relative_to(store.root).as_posix()
        yield Waste(name, size_of(folder), partial(discard, store, folder))
    if isinstance(store, SharedStore):
        for place in store.unfinished_uploads(before):
            yield Waste(f"upload {place}", 0, partial(store.discard_upload, place))


def is_refusal(store: Store, record: Record) -> bool:
    """Whether it decided against a model; what cannot be read counts as a promotion."""
    told = store.file_of(record, DECISION_FILE)
    try:
        return told is not None and json.loads(told)["promote"] is False
    except (ValueError, KeyError, TypeError):
        return False


def size_of(folder: Path) -> int:
    """Bytes of the files of a folder."""
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file())
