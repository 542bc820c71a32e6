"""Counts the cases, and shows the count at the end of the run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent


def pytest_terminal_summary(terminalreporter: Any) -> None:
    reports = [
        report
        for outcome in ("passed", "failed")
        for report in terminalreporter.stats.get(outcome, [])
        if report.when == "call" and report.nodeid.startswith("tests/bad_input/")
    ]
    if reports:
        held = sum(report.passed for report in reports)
        terminalreporter.write_line(f"bad input: {held} of {len(reports)} cases end as stated")


@pytest.fixture
def rows() -> list[dict[str, Any]]:
    """Rows of which every split gets some."""
    return [
        {"id": f"r{n}", "question": f"What is the {n}th word of list {n * 7}?", "answer": f"w{n}"}
        for n in range(80)
    ]
