"""Record every test's outcome as a pytest plugin, with the errors made and the exit codes.

Each process of the tests appends to a file of its own in the folder that OUTCOMES names.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from raft_core.errors import RaftError

FOLDER = Path(os.environ["OUTCOMES"])
VARYING = re.compile(r"/tmp/[^\s',;:)]*|0x[0-9a-f]+|\b\d{4,5}\b|[0-9a-f]{12,}|\d+\.\d+ s")
_told: list[Any] = []


def pytest_configure() -> None:
    """Have errors and ended commands note themselves."""
    made, ran = RaftError.__init__, subprocess.run

    def init(self: RaftError, *arguments: Any) -> None:
        made(self, *arguments)
        _told.append([self.exit_code, VARYING.sub("*", str(self))])

    def run(*arguments: Any, **options: Any) -> Any:
        ended = ran(*arguments, **options)
        _told.append(ended.returncode)
        return ended

    RaftError.__init__ = init  # type: ignore[method-assign]
    subprocess.run = run


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Write a test's outcome once it has run; the controller of several processes ran none."""
    if "PYTEST_XDIST_WORKER" not in os.environ and hasattr(report, "node"):
        return
    if report.when == "call" or report.outcome != "passed":
        told = sorted({json.dumps(each) for each in _told})
        file = FOLDER / os.environ.get("PYTEST_XDIST_WORKER", "main")
        with open(file, "a") as handle:
            handle.write(json.dumps([report.nodeid, [report.outcome, *told]]) + "\n")
    if report.when == "teardown":
        _told.clear()
