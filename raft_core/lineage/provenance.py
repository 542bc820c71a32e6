"""Which data, prompts and models made the input artifacts, as their records tell."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from raft_core.errors import StageError
from raft_core.store.record import Record, read_record

MadeWith = list[dict[str, str | None]]


def input_records(inputs: Mapping[str, Path]) -> dict[str, Record]:
    """The record of every input.

    Raises:
        StageError: one has none.
    """
    found = {}
    for name, folder in sorted(inputs.items()):
        record = read_record(folder)
        if record is None:
            raise StageError(f"input '{name}': '{folder}' has no readable record.json")
        found[name] = record
    return found


def made_with(records: Mapping[str, Record]) -> dict[str, MadeWith]:
    """Stage -> everything with a digest that its settings name; of shards the first one's."""
    by_stage: dict[str, MadeWith] = {}
    for record in records.values():
        if record.stage not in by_stage:
            found = _named(record.config, record.identity, "")
            by_stage[record.stage] = [{"stage": record.stage, **entry} for entry in found]
    return by_stage


def _named(config: Any, identity: Any, role: str) -> Iterator[dict[str, str | None]]:
    """Walk settings and their identity side by side: names stand in one, digests in the other."""
    if isinstance(identity, list) and isinstance(config, list):
        for place, (inner, known) in enumerate(zip(config, identity, strict=False), 1):
            yield from _named(inner, known, f"{role}.{place}")
    if not isinstance(identity, dict) or not isinstance(config, dict):
        return
    entry = _entry(config, identity)
    if entry is not None:
        yield {"role": role.lstrip("."), **entry}
        return
    for name, known in identity.items():
        yield from _named(config.get(name), known, f"{role}.{name}")


def _entry(config: dict[str, Any], identity: dict[str, Any]) -> dict[str, str | None] | None:
    """What this part of the settings refers to, if it is a reference."""
    if identity.keys() == {"text"} and "name" in config:
        return {"kind": "prompt", "name": _plain(config["name"]), "digest": _sha(identity["text"])}
    if identity.get("kind") == "openai":
        digest = identity.get("model_version") or None
        return {"kind": "model", "name": str(identity["model"]), "digest": digest}
    if "path" not in config or not identity.keys() & {"digest", "hub", "mini"}:
        return None
    digest = identity.get("digest") or identity.get("commit")
    if digest is None:  # the embedded world: its name and version are its content
        digest = _sha(json.dumps(identity, sort_keys=True))
    kind = "data" if "columns" in identity else "model"
    return {"kind": kind, "name": _plain(config["path"]), "digest": str(digest)}


def _plain(path: str) -> str:
    """A name as the settings have it; of a place on the machine that made it the end alone."""
    return Path(path).name if Path(path).is_absolute() else path


def _sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
