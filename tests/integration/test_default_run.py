"""What `make run` left: the table's claim. It takes minutes, so the test uses a finished run."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.flow import ROOT

HOME = Path(os.environ.get("RAFT_HOME", ROOT / ".raft"))
FINISHED = any((HOME / "store" / "artifacts" / "report").glob("*/record.json"))
needs_a_run = pytest.mark.skipif(not FINISHED, reason="`make run` has not been run here")


@needs_a_run
@pytest.mark.timeout(900)
def test_default_run_again_all_cached_and_raft_above_raw_sft_on_all_three() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "flows.cli", "run"],
        cwd=ROOT,
        env=os.environ | {"RAFT_HOME": str(HOME)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("Cached") == 20, done.stderr
    report = re.search(r"^report +(\S+)$", done.stdout, re.MULTILINE)
    assert report
    methods = json.loads(Path(report[1]).with_suffix(".json").read_text())["methods"]
    scores = {row["method"]: row["scores"] for row in methods}
    assert list(scores) == ["base", "sft_raw", "sdft", "sft_fused", "raft"]
    for benchmark in ("domain", "general", "instructions"):
        raft, raw = scores["raft"][benchmark], scores["sft_raw"][benchmark]
        assert raft["accuracy"] > raw["accuracy"]
    assert scores["raft"]["domain"]["low"] > scores["base"]["domain"]["high"] + 0.5
