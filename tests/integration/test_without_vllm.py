"""The default profile where vLLM is not installed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.hiding import without
from tests.integration.flow import ROOT


def test_default_profile_without_vllm_writes_by_transformers(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "flows.cli", "run", "--plain", "--until", "rewrite", "--limit=60"],
        cwd=ROOT,
        env=os.environ | {"RAFT_HOME": str(tmp_path / "home")} | without(tmp_path, "vllm"),
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr
    (record,) = (tmp_path / "home" / "store" / "artifacts" / "rewrite").glob("*/record.json")
    assert json.loads(record.read_text())["identity"]["generator"]["kind"] == "transformers"
