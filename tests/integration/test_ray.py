"""Shards of rewriting and fusing on a Ray cluster of two workers: what threads make."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.flow import ROOT, small_profile

pytestmark = pytest.mark.timeout(900)
SHARDS = 2


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Its workers have a home of their own; the run tells them where the store is."""
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("RAFT_HOME", str(tmp_path / "workers"))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))

    # Two nodes of one core each: neither can hold both shards at once.
    head = {"num_cpus": 1, "include_dashboard": False}
    nodes = Cluster(initialize_head=True, head_node_args=head)
    nodes.add_node(num_cpus=1)
    try:
        yield nodes
    finally:
        nodes.shutdown()


def run(folder: Path, *settings: str) -> dict[str, dict[str, str]]:
    """Stage -> file -> digest of what a run has made of the sharded stages."""
    overrides = ["rewrite.rows_per_shard=30", "domain.limit=100", *settings]
    command = [sys.executable, "-m", "flows.cli", "run", "--domain", "law", "--until", "gather"]
    command += ["--profile", str(small_profile(folder))]
    done = subprocess.run(
        [*command, *(part for each in overrides for part in ("--set", each))],
        cwd=ROOT,
        env=os.environ | {"RAFT_HOME": str(folder / "home"), "COLUMNS": "160"},
        capture_output=True,
        text=True,
        timeout=800,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    made: dict[str, dict[str, str]] = {}
    for stage in ("rewrite", "fuse", "gather"):
        for record in (folder / "home" / "store" / "artifacts" / stage).glob("*/record.json"):
            told = json.loads(record.read_text())
            made[f"{stage}/{told['key']}"] = told["files"]
    return made


def test_ray_cluster_of_two_workers_makes_the_artifacts_of_threads(
    cluster: Any, tmp_path: Path
) -> None:
    for name in ("threads", "ray"):
        (tmp_path / name).mkdir()
    threads = run(tmp_path / "threads")
    on_cluster = run(
        tmp_path / "ray", "runtime.task_runner=ray", f"runtime.ray_address={cluster.address}"
    )
    assert on_cluster == threads
    shards = [key for key in threads if key.startswith(("rewrite/", "fuse/"))]
    assert len(shards) >= 2 * SHARDS
    assert (tmp_path / "workers" / "generations.sqlite").is_file()
