"""The benchmark of the distillation loss, in small: same loss and gradient, far less memory."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from tests.integration.flow import ROOT


def test_objective_chunked_equals_dense_in_a_fraction_of_the_memory() -> None:
    sizes = ["--vocabulary", "64000", "--tokens", "2048", "--hidden", "32", "--repeats", "1"]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.objective", *sizes, "--threads", "1"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    dense, chunked = (
        dict(re.findall(r"(\w+) ([\d.e+-]+)", line)) for line in done.stdout.splitlines()[:2]
    )
    for value in ("loss", "gradient"):
        assert float(chunked[value]) == pytest.approx(float(dense[value]), rel=1e-4)
    assert float(chunked["extra_mib"]) < 0.2 * float(dense["extra_mib"])
