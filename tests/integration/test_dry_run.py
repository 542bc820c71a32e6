"""`--dry-run`: what a run would take, beside what one took."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from raft_core.data.records import read_jsonl
from tests.integration.flow import ROOT, Flow

# From references alone; the embedded base puts things shorter than they do.
WITHIN = 3


def dry_run(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"RAFT_HOME": str(home), "HF_HUB_OFFLINE": "1"}
    environment.pop("RAFT_JUDGES_API_KEY", None)
    return subprocess.run(
        [sys.executable, "-m", "flows.cli", "run", "--dry-run", *arguments],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )


def estimated(home: Path, *arguments: str) -> dict[str, Any]:
    done = dry_run(home, "--json", *arguments)
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    return told | {"by_label": {stage["label"]: stage for stage in told["stages"]}}


def small(first: Flow) -> list[str]:
    """The arguments of the small flow."""
    profile = first.home.parent / "small.yaml"
    return ["--profile", str(profile), "--domain", "law", "--limit", "150"]


@pytest.mark.parametrize("profile", ["mini", "gpu"])
def test_profile_alone_is_told_and_nothing_made(profile: str, tmp_path: Path) -> None:
    done = dry_run(tmp_path / "home", "--profile", profile)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"Dry run: profile {profile}")
    for word in ("rows  ", "distill raft", "memory ", "total ", "disk ", "time "):
        assert word in done.stdout
    assert list(tmp_path.iterdir()) == []
    assert done.stderr == ""


def test_bad_setting_ends_as_in_a_run(tmp_path: Path) -> None:
    done = dry_run(tmp_path / "home", "--set", "filter.tau=1.7")
    assert (done.returncode, done.stdout) == (2, "")
    assert "field 'filter.tau'" in done.stderr


def test_run_that_was_made_is_told_as_cached(first: Flow) -> None:
    told = estimated(first.home, *small(first))
    assert told["rows"]["exact"]
    assert [stage["label"] for stage in told["stages"] if not stage["kept"]] == []
    assert told["seconds"] == 0


def test_changed_setting_keeps_what_stands_before_it(first: Flow) -> None:
    told = estimated(first.home, *small(first), "--set", "filter.tau=0.7")
    kept = [label for label, stage in told["by_label"].items() if stage["kept"]]
    assert kept == [
        *("prepare", "rewrite", "respond base", "evaluate base"),
        *("distill sft_raw", "respond sft_raw", "evaluate sft_raw"),
    ]


def test_completions_in_the_cache_are_left_out(first: Flow) -> None:
    told = estimated(first.home, *small(first), "--set", "rewrite.rows_per_shard=40")
    rewrite = told["by_label"]["rewrite"]
    assert not rewrite["kept"]
    assert (rewrite["requests"], rewrite["tokens"]) == (0, 0)
    assert rewrite["found"] == told["rows"]["splits"]["train"]


def test_tokens_and_steps_are_near_those_of_the_run(first: Flow, tmp_path: Path) -> None:
    told = estimated(tmp_path / "empty", *small(first))["by_label"]
    for label, stage, file in (
        ("rewrite", "rewrite", "rewrites.jsonl"),
        ("respond raft", "respond", "responses.jsonl"),
    ):
        folders = sorted((first.home / "store" / "artifacts" / stage).iterdir())
        counts = [[row["tokens"] for row in read_jsonl(f / file)] for f in folders]
        wanted = next(c for c in counts if len(c) == told[label]["requests"])
        assert 1 / WITHIN < told[label]["tokens"] / sum(wanted) < WITHIN
        assert sum(wanted) <= told[label]["most"]
    for folder in (first.home / "store" / "artifacts" / "distill").iterdir():
        summary = json.loads((folder / "summary.json").read_text())
        assert told["distill raft"]["steps"] == summary["steps"]
        assert told["distill raft"]["rows"] == summary["rows"]
        lengths = [
            p["rollout_tokens"]
            for p in read_jsonl(folder / "curves.jsonl")
            if "rollout_tokens" in p
        ]
        if lengths:
            drawn = told["distill raft"]["tokens"] / told["distill raft"]["requests"]
            assert 1 / WITHIN < drawn / (sum(lengths) / len(lengths)) < WITHIN


def test_second_estimate_takes_lengths_from_the_first_run(first: Flow) -> None:
    told = estimated(
        first.home,
        *small(first),
        "--set",
        "seed=5",
        "--set",
        "runtime.cache_generations=false",
        "--set",
        "rewrite.rows_per_shard=40",
    )
    rewrite = told["by_label"]["rewrite"]
    folder = next((first.home / "store" / "artifacts" / "rewrite").iterdir())
    written = [row["tokens"] for row in read_jsonl(folder / "rewrites.jsonl")]
    assert rewrite["tokens"] == pytest.approx(sum(written), rel=0.01)
    assert "earlier stage" in rewrite["rate"]
