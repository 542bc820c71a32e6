"""What a user's mistakes cost: one clear error, exit code 2, seconds, nothing computed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
GOOD = {"question": "Why?", "answer": "So."}
CASES = [
    # arguments ({} is a folder with the files below), what the error says
    (["--data", "{}/none.jsonl"], "none.jsonl': no such file"),
    (["--data", "{}/empty_answer.jsonl"], "empty_answer.jsonl row 2: field 'answer' is empty"),
    (["--data", "{}/unknown.jsonl"], "unknown.jsonl row 1: field 'answer' is missing"),
    (["--data", "{}/torn.jsonl"], "torn.jsonl row 1: not JSON"),
    (["--set", "filter.tau=1.7"], "setting filter.tau: field 'filter.tau'"),
    (["--set", "filter.tao=0.7"], "field 'filter.tao': no such field"),
    (["--set", "engine.model.path={}"], "has no config.json"),
    (["--set", "engine.model.path=no-such-model"], "no-such-model"),
    (["--set", "engine.model.path=no-org/no-such-model"], "no-org/no-such-model"),
    (["--domain", "sport"], "domain 'sport': no"),
    (["--profile", "cloud"], "profile 'cloud': no"),
    (["--set", "rewrite.prompt=nope"], "prompt 'nope': no such prompt"),
    (["--profile", "{}/broken.yaml"], "broken.yaml: field 'metods': no such field"),
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    unknown = {"question": "Why?", "reply": "So."}
    files = {
        "empty_answer.jsonl": [GOOD, GOOD | {"answer": " "}],
        "unknown.jsonl": [unknown],
    }
    for name, rows in files.items():
        (tmp_path / name).write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "torn.jsonl").write_text('{"question": "Wh')
    profile = (ROOT / "conf" / "mini.yaml").read_text() + "\nmetods: {}\n"
    (tmp_path / "broken.yaml").write_text(profile)
    return tmp_path


@pytest.mark.parametrize(("arguments", "message"), CASES)
def test_mistake_one_error_exit_two_within_seconds(
    folder: Path, arguments: list[str], message: str
) -> None:
    started = time.monotonic()
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "flows.cli",
            "run",
            *(a.replace("{}", str(folder)) for a in arguments),
        ],
        cwd=ROOT,
        env=os.environ | {"RAFT_HOME": str(folder / "home")},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 2, done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.startswith("error: ")
    assert not (folder / "home").exists()
    assert time.monotonic() - started < 5


def test_stage_without_its_spec_one_error(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "raft_core", "prepare", "--spec", "none.json"]
    done = subprocess.run(
        [*command, "--out", str(tmp_path / "out")], cwd=ROOT, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (
        2,
        "error: spec 'none.json': No such file or directory\n",
    )


def test_stage_without_an_orchestrator_runs_from_its_spec(tmp_path: Path) -> None:
    from raft_core.app.pipeline import STAGES
    from raft_core.app.settings import load_settings

    settings = load_settings("mini", "law", limit=100)
    spec = STAGES["prepare"].spec(settings.prepare_stage(), {}, settings.runtime)
    (tmp_path / "spec.json").write_text(spec.model_dump_json())
    command = [sys.executable, "-m", "raft_core", "prepare"]
    done = subprocess.run(
        [*command, "--spec", str(tmp_path / "spec.json"), "--out", str(tmp_path / "out")],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    counts = json.loads((tmp_path / "out" / "counts.json").read_text())
    assert counts["in"] == 100


@pytest.mark.parametrize("arguments", [[], ["--plain"]], ids=["prefect", "plain"])
def test_interrupt_ends_the_run_at_once_with_one_line_and_no_stage_left(
    arguments: list[str], tmp_path: Path
) -> None:
    home = tmp_path / "home"
    flow = subprocess.Popen(
        [sys.executable, "-m", "flows.cli", "run", *arguments],
        cwd=ROOT,
        env=os.environ | {"RAFT_HOME": str(home)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    deadline = time.monotonic() + 120
    while not list((home / "store" / "work").glob("*/spec.json")) and time.monotonic() < deadline:
        time.sleep(0.2)
    os.killpg(flow.pid, signal.SIGINT)  # as a terminal's Ctrl-C does
    output, _ = flow.communicate(timeout=20)
    assert flow.returncode == 130, output
    assert "interrupted; finished stages are kept" in output
    assert "Traceback" not in output
    for _ in range(100):
        left = subprocess.run(["pgrep", "-g", str(flow.pid)], capture_output=True, text=True)
        if not left.stdout:
            break
        time.sleep(0.2)
    assert not left.stdout
