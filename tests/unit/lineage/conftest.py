"""One row of every fate, and the stage that tells of them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from raft_core.config.runtime import RuntimeConfig
from raft_core.data.records import Example, Rejection
from raft_core.execution.inputs import Inputs
from raft_core.execution.progress import Progress
from raft_core.execution.stage import StageRun
from raft_core.lineage import lineage as stage
from raft_core.lineage.config import LineageConfig, LineageStage
from tests.unit.lineage.crafted import (
    ARABIC,
    HOSTILE,
    JAPANESE,
    Crafted,
    Run,
    candidate,
    example,
    verdict,
)


@pytest.fixture
def crafted(tmp_path: Path) -> Crafted:
    """Fused, kept rewrite, kept reference, held out and dropped; texts of many scripts."""
    made = Crafted(tmp_path / "inputs")
    rounds = [candidate(0, "it is red, yes", 0.7), candidate(1, "red it is", 0.9, guard={})]
    made.add(
        example("fused"),
        verdict("fused", "red it is", guard={}),
        ("red it is", "fused"),
        rounds,
    )
    made.add(
        example("below"),
        verdict("below", "blue", passed=False, reason="below_tau", detail="cosine 0.2"),
        ("it is red", "reference"),
        [],
    )
    made.add(
        example("guarded"),
        verdict("guarded", "12", passed=False, reason="guard", guard={"numbers": "12"}),
        ("it is red", "reference"),
        None,
    )
    made.add(
        Example("arabic", "ما هي؟", ARABIC, "train"),
        verdict("arabic", JAPANESE),
        (JAPANESE, "rewrite"),
        [candidate(0, "", None, finish_reason="error", error="timed out")],
    )
    made.add(
        Example(HOSTILE, HOSTILE, HOSTILE, "train", (HOSTILE,)),
        verdict(HOSTILE, f"{HOSTILE} more"),
        (f"a {HOSTILE}", "fused"),
        [candidate(0, f"a {HOSTILE}", 0.8, guard={HOSTILE: HOSTILE})],
    )
    made.held_out = [example("valid", "validation"), example("tested", "test")]
    again = Rejection("again", "prepare", "near_duplicate", "of fused")
    made.dropped = [(example("again"), again)]
    return made


@pytest.fixture
def run_lineage(tmp_path: Path) -> Run:
    """Runs the stage on inputs; returns its folder."""

    def run(inputs: Mapping[str, Path], name: str = "out", **settings: Any) -> Path:
        out = tmp_path / name
        out.mkdir()
        config = LineageStage(domain="law", lineage=LineageConfig(**settings))
        progress = Progress(tmp_path / "events.jsonl")
        stage.run(StageRun(config, Inputs(inputs), out, out, RuntimeConfig(), progress))
        return out

    return run
