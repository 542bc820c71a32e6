"""A run without Prefect, MLflow and vLLM: the same artifacts and the same table."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.flow import ROOT, small_profile

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]
# Python imports it first, in the run and in every process that it starts.
BLOCKING = """
from importlib.machinery import PathFinder

plain = PathFinder.find_spec

def find_spec(name, path=None, target=None):
    return None if name.partition(".")[0] in {blocked} else plain(name, path, target)

PathFinder.find_spec = staticmethod(find_spec)
"""


def raft(folder: Path, *arguments: str, without: set[str]) -> subprocess.CompletedProcess[str]:
    (folder / "blocked").mkdir(exist_ok=True)
    (folder / "blocked" / "sitecustomize.py").write_text(BLOCKING.format(blocked=without or "()"))
    settings = ["--domain", "law", "--limit", "60", "--set", "distill.epochs=0.05"]
    return subprocess.run(
        [
            *(sys.executable, "-m", "flows.cli", "run", "--profile", str(small_profile(folder))),
            *(*settings, *arguments),
        ],
        cwd=ROOT,
        env=os.environ | {"RAFT_HOME": str(folder / "home"), "PYTHONPATH": str(folder / "blocked")},
        capture_output=True,
        text=True,
        timeout=500,
    )


def until_mlflow(output: str) -> list[str]:
    """Return the closing lines, without those that only a flow has."""
    lines = output.splitlines()
    return [x for x in lines if not x.startswith(("MLflow run", "browse it with"))]


def test_plain_run_needs_no_orchestrator_and_prefect_finds_all_that_it_made(tmp_path: Path) -> None:
    plain = raft(tmp_path, "--plain", without={"prefect", "mlflow", "vllm"})
    assert plain.returncode == 0, plain.stderr
    assert "| RAFT | 3.0e-04 |" in plain.stdout
    assert not (tmp_path / "home" / "mlflow.db").exists()

    blocked = raft(tmp_path, without={"prefect"})
    assert blocked.returncode == 1
    assert "No module named 'prefect'" in blocked.stderr

    told = raft(tmp_path, without=set())
    assert told.returncode == 0, told.stderr
    stages = [line.split()[-1] for line in told.stderr.splitlines() if line.startswith("  ")]
    assert stages
    assert set(stages) == {"Cached"}
    assert until_mlflow(told.stdout) == until_mlflow(plain.stdout)


def test_run_until_a_stage_ends_there_with_its_artifact(tmp_path: Path) -> None:
    done = raft(tmp_path, "--plain", "--until", "filter", without={"prefect", "mlflow", "vllm"})
    assert done.returncode == 0, done.stderr
    (line,) = [x for x in done.stdout.splitlines() if x.startswith("filter ")]
    assert (Path(line.split()[-1]) / "filtered.jsonl").is_file()
    made = {path.name for path in (tmp_path / "home" / "store" / "artifacts").iterdir()}
    assert made == {"prepare", "rewrite", "filter"}
