"""What the benchmark of the orchestration counts as overhead."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from benchmarks.flow_timeline import Interval, Timeline, union, watch


def timeline(wall: float, *stages: tuple[float, float]) -> Timeline:
    return Timeline(wall, 0, tuple(Interval("distill/a", *span, 0.0) for span in stages), ())


def test_union_overlapping_and_nested_intervals_count_once() -> None:
    assert union([(5, 8), (1, 4), (2, 3), (3, 6), (10, 11)]) == 8  # 1-8 and 10-11
    assert union([]) == 0


def test_overhead_is_before_between_and_after_the_stages() -> None:
    run = timeline(20, (3, 9), (5, 10), (12, 18))
    assert run.overhead == 20 - 7 - 6
    assert run.gaps == (3, 2, 2)
    assert timeline(4).gaps == (4, 0, 0)


@pytest.mark.skipif(sys.platform != "linux", reason="it reads /proc")
def test_watch_knows_a_stage_by_its_log_and_its_life(tmp_path: Path) -> None:
    work = tmp_path / "work" / "prepare-0a1b2c3d4e"
    work.mkdir(parents=True)
    stage = "import time; time.sleep(0.6)"
    flow = (
        "import subprocess, sys, time\n"
        "time.sleep(0.4)\n"
        f"with open({str(work / 'log.txt')!r}, 'w') as log:\n"
        f"    subprocess.run([sys.executable, '-c', {stage!r}], stdout=log)\n"
        "time.sleep(0.3)\n"
    )
    run = watch([sys.executable, "-c", flow], os.environ, tmp_path / "log.txt", tmp_path)
    assert run.code == 0
    (found,) = run.stages
    assert found.role == "prepare/0a1b2c"
    assert 0.4 <= found.start < found.end <= run.wall - 0.3
    assert [other.role for other in run.others] == ["flow"]
