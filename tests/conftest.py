"""What all tests share."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

# Before torch is imported: two threads that wait for each other crawl when anything else runs.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# A store that the developer shares with others is no place for tests.
os.environ.pop("RAFT_STORE", None)


@pytest.fixture(autouse=True)
def _own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test finds what another one generated, or writes into the home of a finished run."""
    monkeypatch.setenv("RAFT_HOME", str(tmp_path / "raft-home"))


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """How many cases of tests/bad_input end as they state. Here, where several workers' come in."""
    reports = [
        report
        for outcome in ("passed", "failed")
        for report in terminalreporter.stats.get(outcome, [])
        if report.when == "call" and report.nodeid.startswith("tests/bad_input/")
    ]
    if reports:
        held = sum(report.passed for report in reports)
        terminalreporter.write_line(f"bad input: {held} of {len(reports)} cases end as stated")
