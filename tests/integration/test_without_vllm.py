"""The default profile where vLLM is not installed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.integration.flow import ROOT

# Python imports it first, in the run and in every process that it starts.
HIDING = """
import sys
from importlib.machinery import PathFinder

class Hiding(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        hidden = name.partition(".")[0] == "vllm"
        return None if hidden else super().find_spec(name, path, target)

sys.meta_path[sys.meta_path.index(PathFinder)] = Hiding
"""


def test_default_profile_without_vllm_writes_by_transformers(tmp_path: Path) -> None:
    (tmp_path / "hiding").mkdir()
    (tmp_path / "hiding" / "sitecustomize.py").write_text(HIDING)
    done = subprocess.run(
        [sys.executable, "-m", "flows.cli", "run", "--plain", "--until", "rewrite", "--limit=60"],
        cwd=ROOT,
        env=os.environ
        | {"RAFT_HOME": str(tmp_path / "home"), "PYTHONPATH": str(tmp_path / "hiding")},
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr
    (record,) = (tmp_path / "home" / "store" / "artifacts" / "rewrite").glob("*/record.json")
    assert json.loads(record.read_text())["identity"]["generator"]["kind"] == "transformers"
