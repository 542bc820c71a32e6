"""A run without Prefect, MLflow and vLLM: the same artifacts and the same table."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.hiding import without
from tests.integration.flow import ROOT, small_profile

NEEDLESS = ["prefect", "mlflow", "vllm"]
pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]


def raft(folder: Path, *arguments: str, hidden: Sequence[str]) -> subprocess.CompletedProcess[str]:
    settings = ["--domain", "law", "--limit", "60", "--set", "distill.epochs=0.05"]
    profile = ["--profile", str(small_profile(folder))]
    return subprocess.run(
        [sys.executable, "-m", "flows.cli", "run", *profile, *settings, *arguments],
        cwd=ROOT,
        env=os.environ | {"RAFT_HOME": str(folder / "home")} | without(folder, *hidden),
        capture_output=True,
        text=True,
        timeout=500,
    )


def until_mlflow(output: str) -> list[str]:
    """Return the closing lines, without those that only a flow has."""
    lines = output.splitlines()
    return [x for x in lines if not x.startswith(("MLflow run", "browse it with"))]


def test_plain_run_needs_no_orchestrator_and_prefect_finds_all_that_it_made(tmp_path: Path) -> None:
    plain = raft(tmp_path, "--plain", hidden=NEEDLESS)
    assert plain.returncode == 0, plain.stderr
    assert "| RAFT | 3.0e-04 |" in plain.stdout
    assert not (tmp_path / "home" / "mlflow.db").exists()

    blocked = raft(tmp_path, hidden=["prefect"])
    assert blocked.returncode == 1
    assert "No module named 'prefect'" in blocked.stderr

    told = raft(tmp_path, hidden=[])
    assert told.returncode == 0, told.stderr
    stages = [line.split()[-1] for line in told.stderr.splitlines() if line.startswith("  ")]
    assert stages
    assert set(stages) == {"Cached"}
    assert until_mlflow(told.stdout) == until_mlflow(plain.stdout)


def test_run_until_a_stage_ends_there_with_its_artifact(tmp_path: Path) -> None:
    done = raft(tmp_path, "--plain", "--until", "filter", hidden=NEEDLESS)
    assert done.returncode == 0, done.stderr
    (line,) = [x for x in done.stdout.splitlines() if x.startswith("filter ")]
    assert (Path(line.split()[-1]) / "filtered.jsonl").is_file()
    made = {path.name for path in (tmp_path / "home" / "store" / "artifacts").iterdir()}
    assert made == {"prepare", "rewrite", "filter"}
