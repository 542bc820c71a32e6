"""What is made again where the rows of a domain change."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import raft_core
from raft_core.app.pipeline import STAGES, evaluate, train
from raft_core.app.run import Run
from raft_core.execution.graph import predicted
from raft_core.mini import world
from tests.integration.flow import small_profile

pytestmark = pytest.mark.integration


def keys(run: Run) -> dict[str, str | None]:
    """Return the keys that follow from the prepared rows alone."""
    settings, refined = run.settings, run.pipeline.refined
    wanted = [
        *refined.rewrites,
        train(settings, "sft_raw", refined),
        evaluate(settings, "base", refined.prepare),
    ]
    made = {(ref.stage, ref.key): ref for ref in run.made.values()}
    specs = predicted(wanted, STAGES, settings.runtime, lambda s: made.get((s.stage, s.key)))
    return {node.label: spec and spec.key for node, spec in specs.items()}


def test_rows_that_are_added_fork_the_keys_of_what_reads_them_and_no_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAFT_HOME", str(tmp_path / "home"))
    rows = world.load("law")
    test = [row for row in rows if row["split"] == "test"][:5]
    train_rows = [row for row in rows if row["split"] == "train"][:5]
    found = {}
    for name, left_out in (("all", []), ("fewer test", test), ("fewer train", train_rows)):
        data = tmp_path / f"{name}.jsonl"
        data.write_text("".join(json.dumps(row) + "\n" for row in rows if row not in left_out))
        profile = str(small_profile(tmp_path))
        settings = raft_core.load_settings(profile, "law", data=str(data))
        found[name] = keys(raft_core.run(settings, until="prepare"))

    def forked(name: str) -> set[str]:
        return {label for label, key in found["all"].items() if key != found[name][label]}

    assert forked("fewer test") == {"prepare", "respond base"}
    assert forked("fewer train") == {"prepare", "rewrite", "distill sft_raw"}
