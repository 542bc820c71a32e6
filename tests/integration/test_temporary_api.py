"""Prefect's temporary server: its database, and whom it ends with."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import psutil
import pytest

from tasks.prefect_schema import SCHEMA
from tasks.serving.access import basic
from tests.integration.flow import ROOT


def test_schema_is_what_the_installed_prefect_migrates_to(tmp_path: Path) -> None:
    code = "import sys, pathlib; from tasks.prefect_schema import migrated\n"
    code += "print(migrated(pathlib.Path(sys.argv[1])), end='')"
    made = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert parts(made.stdout) == parts(SCHEMA.read_text()), (
        "`python -m tasks.prefect_schema` writes it again"
    )


def parts(schema: str) -> list[str]:
    """Its lines; migrations add the constraints of a table in an order of no meaning."""
    return sorted(line.strip(" \t,") for line in schema.splitlines())


def test_server_answers_at_once_and_ends_with_the_process_that_started_it(tmp_path: Path) -> None:
    code = (
        "import pathlib, sys, time; from tasks.temporary_api import TemporaryApi\n"
        "api = TemporaryApi(pathlib.Path(sys.argv[1]), 'raft:known')\n"
        "print(api.url, api._process.pid, flush=True); time.sleep(600)\n"
    )
    starter = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert starter.stdout is not None
    url, pid = starter.stdout.readline().split()
    with urlopen(f"{url}/health", timeout=120) as answer:  # no attempt before is refused
        assert answer.status == 200
    wrong = (
        {"Origin": "http://evil.example"},
        {"Host": "evil.example"},
        {"Authorization": "Basic x"},
    )
    for headers, status in zip(wrong, (403, 403, 401), strict=True):
        with pytest.raises(HTTPError) as refused:
            urlopen(Request(f"{url}/csrf-token?client=a", headers=headers), timeout=60)
        assert refused.value.code == status
    with pytest.raises(HTTPError) as refused:  # the login alone does not make a page's request one
        urlopen(Request(f"{url}/flows/", b"{}", {"Authorization": basic("raft:known")}), timeout=60)
    assert refused.value.code == 403
    server = psutil.Process(int(pid))
    starter.kill()
    starter.wait()
    deadline = time.monotonic() + 20
    while server.is_running() and server.status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline
        time.sleep(0.05)
