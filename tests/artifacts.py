"""Small artifacts, committed to a store without a stage that makes them."""

from __future__ import annotations

from typing import Any

from raft_core.store.artifacts import ArtifactRef, StageSpec, Store


def spec(**changes: Any) -> StageSpec:
    fields: dict[str, Any] = {"stage": "prepare", "version": 1, "config": {}, "identity": {"a": 1}}
    return StageSpec(**(fields | changes))


def committed(store: Store, wanted: StageSpec, text: str = "row") -> ArtifactRef:
    work = store.work_folder(wanted)
    (work / "out" / "sub").mkdir()
    (work / "out" / "sub" / "rows.jsonl").write_text(text)
    return store.commit(wanted, work, 1.5)


def rows(artifact: ArtifactRef | None) -> str | None:
    """What `committed` wrote into an artifact, or None where there is none."""
    return None if artifact is None else (artifact.folder / "sub" / "rows.jsonl").read_text()
