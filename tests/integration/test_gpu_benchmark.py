"""`python -m benchmarks.gpu` on the CPU, at sizes that mean nothing: it runs and is right."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.integration


def test_gpu_benchmark_checks_run_on_the_cpu_and_are_right(tmp_path: Path) -> None:
    file = tmp_path / "gpu.json"
    command = [sys.executable, "-m", "benchmarks.gpu", "--device", "cpu", "--tiny"]

    done = subprocess.run(
        [*command, "--sections", "checks", "--seconds", "250", "--json", str(file)],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )

    assert "Not measured" not in done.stdout, done.stdout
    assert "| NO |" not in done.stdout
    assert done.stdout.count("| yes |") == 7
    assert json.loads(file.read_text())["case"] == "gpu"
    cases = [one["case"] for one in json.loads((tmp_path / "gpu-raw.json").read_text())["results"]]
    assert cases == ["rates", "losses", "step"]
