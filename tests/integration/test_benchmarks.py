"""The benchmark of the distillation loss, in small: same loss and gradient, far less memory."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from benchmarks.document import ratio_of
from tests.integration.flow import ROOT


def test_objective_chunked_equals_dense_in_a_fraction_of_the_memory(tmp_path: Path) -> None:
    """The case itself ends with an error where loss or gradient of the two differ."""
    sizes = [
        "--tokens",
        "2048",
        "--vocabulary",
        "64000",
        "--hidden",
        "32",
        "--repeats",
        "1",
        "--pairs",
        "1",
    ]
    file = tmp_path / "objective.json"
    command = [sys.executable, "-m", "benchmarks.objective", *sizes, "--threads", "1"]
    subprocess.run([*command, "--dtype", "float32", "--json", str(file)], cwd=ROOT, check=True)
    time_ratio, memory_ratio = map(ratio_of, json.loads(file.read_text())["ratios"])
    assert memory_ratio.spread.median < 0.2
    assert time_ratio.goal == "<= 1"
