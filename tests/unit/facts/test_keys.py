"""Without a guard, filter and fuse have the keys that they had before there was one."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest

from raft_core.app.model_lineage import lineage
from raft_core.app.settings import Settings, load_settings
from raft_core.app.study_plan import load_plan
from raft_core.config.base import fingerprint
from raft_core.execution.shards import WHOLE, Shard

# Digests of the identities before there was a guard.
BEFORE = {"filter": "136a9988499a52cf", "fuse": "804dd90d1ff25962"}  # student qwen3
BEFORE_LLAMA = {"filter": "136a9988499a52cf", "fuse": "833d40bf6bf9260c"}


def digest(config: Any) -> str:
    canonical = json.dumps(fingerprint(config), sort_keys=True)
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]


def digests(settings: Settings, shard: Shard = WHOLE) -> dict[str, str]:
    return {"filter": digest(settings.filter_stage()), "fuse": digest(settings.fuse_stage(shard))}


@pytest.mark.parametrize("study", ["mini", "balance"])
def test_study_cells_keep_the_keys_of_the_plain_filter(study: str) -> None:
    plan = load_plan(study)
    (cell,) = plan.cells("qwen3/law/0/raft")
    assert plan.settings(cell).guard is None
    assert digests(plan.settings(cell)) == BEFORE


def test_guard_null_has_the_keys_of_no_guard() -> None:
    settings = load_settings("mini", "law", ["guard=null"])
    assert digests(settings) == BEFORE_LLAMA
    assert digests(settings, Shard(index=0, of=2))["fuse"] == "ba636819c2d1a7f8"


def test_guard_null_has_the_lineage_of_settings_without_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("raft_core.app.model_lineage._digest", lambda value: value)
    config: Any = lineage(load_settings("mini", "law"))["config"]
    assert config.pop("guard")
    assert lineage(load_settings("mini", "law", ["guard=null"]))["config"] == config


def test_guard_is_on_by_default_and_forks_both_keys_and_the_lineage() -> None:
    settings = load_settings("mini", "law")
    off = load_settings("mini", "law", ["guard=null"])
    fewer = load_settings("mini", "law", ["guard.names=false"])
    for stage in ("filter", "fuse"):
        assert len({digests(s)[stage] for s in (settings, off, fewer)}) == 3
    assert len({lineage(s)["config"] for s in (settings, off, fewer)}) == 3
