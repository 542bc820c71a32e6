"""The daily setup as a user has it: servers, workers, deployments, retraining with a gate.

On SQLite, or on the PostgreSQL server that RAFT_TEST_DATABASE_URL names.
"""

from __future__ import annotations

import json
import os
import re
import stat
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from websockets import Origin, Subprotocol
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from raft_core.mini import world
from tasks.serving.access import basic
from tests.integration.flow import small_profile
from tests.integration.stack import Stack, free_port

pytestmark = pytest.mark.timeout(900)
NEW_ROWS = 20


@dataclass(frozen=True)
class Lost:
    """A flow run that was killed: its id, what it was asked for, and when it ended."""

    run: str
    parameters: dict[str, Any]
    killed: datetime


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    home = tmp_path_factory.mktemp("stack")
    database = os.environ.get("RAFT_TEST_DATABASE_URL", "")
    running = Stack(home, free_port(), free_port(), database)
    try:
        started = running.stack("up")
        assert started.returncode == 0, started.stdout + started.stderr
        yield running
    finally:
        running.stack("down")


def told(done: subprocess.CompletedProcess[str]) -> str:
    return done.stdout + done.stderr


def stages(tasks: list[dict[str, Any]]) -> set[str]:
    """What the tasks are called, without the end that Prefect gives to some."""
    return {task["name"].split("-")[0] for task in tasks}


def outcome(stack: Stack) -> tuple[str, str]:
    """State and message of the last retraining."""
    state = stack.flow_runs("retrain")[0]["state"]
    return state["name"], state["message"]


def decision(stack: Stack) -> str:
    """The last decision as Prefect's page shows it."""
    found = stack.api(
        "artifacts/filter", artifacts={"key": {"any_": ["decision-law"]}}, sort="CREATED_DESC"
    )
    page: str = found[0]["data"]
    return page


def test_stack_status_everything_works(stack: Stack) -> None:
    status = stack.stack("status")
    assert status.returncode == 0, told(status)
    assert status.stdout.count("works") == 4


def test_stack_up_again_keeps_what_runs(stack: Stack) -> None:
    before = json.loads((stack.home / "server" / "processes.json").read_text())
    assert stack.stack("up").returncode == 0
    assert json.loads((stack.home / "server" / "processes.json").read_text()) == before


def test_stack_every_domain_is_scheduled(stack: Stack) -> None:
    deployments = stack.api("deployments/filter", flows={"name": {"any_": ["retrain"]}})
    assert len(deployments) == 5
    for each in deployments:
        (schedule,) = each["schedules"]
        assert schedule["active"]
        assert schedule["schedule"]["timezone"] == "Etc/UTC"
        assert each["concurrency_options"]["collision_strategy"] == "ENQUEUE"


def test_stack_documents_are_prepared_by_a_deployment(stack: Stack) -> None:
    (only,) = stack.api("deployments/filter", flows={"name": {"any_": ["prepare"]}})
    assert only["name"] == "domain"
    assert only["parameters"]["out"] == str(stack.home / "pairs.jsonl")
    refused = stack.run("prepare/domain", limit=-1)
    assert refused.returncode != 0
    assert "minimum of 0" in " ".join(told(refused).split())


JSON, PLAIN = {"Content-Type": "application/json"}, {"Content-Type": "text/plain"}
PAGE, NEXT_DOOR = {"Origin": "http://evil.example"}, {"Origin": "http://127.0.0.1:9"}
REBOUND = {"Host": "evil.example"}


@pytest.mark.parametrize("has_login", [False, True], ids=["stranger", "browser_with_the_login"])
@pytest.mark.parametrize(
    "headers",
    [JSON | PAGE, PLAIN | PAGE, JSON | NEXT_DOOR, PLAIN | {"Origin": "null"}, JSON | REBOUND, JSON],
    ids=["page", "page_plain", "page_of_another_port", "sandboxed_page", "rebound_name", "user"],
)
def test_stack_write_of_a_foreign_page_or_user_is_refused(
    stack: Stack, headers: dict[str, str], has_login: bool, tmp_path: Path
) -> None:
    """No command runs, with or without the login: only the login is no reason to obey a page."""
    (full,) = stack.api("deployments/filter", deployments={"name": {"any_": ["full"]}})
    before = len(stack.flow_runs("raft"))
    headers = headers | ({"Authorization": basic(stack.login)} if has_login else {})
    command = {"job_variables": {"command": f"touch {tmp_path / 'ran'}"}}
    path = f"/api/deployments/{full['id']}/create_flow_run"
    assert stack.status(stack.prefect_port, path, headers, command) in (401, 403)
    if headers.keys() & {"Origin", "Host"} or not has_login:
        path, made = "/api/2.0/mlflow/experiments/create", {"name": "made by a page"}
        assert stack.status(stack.mlflow_port, path, headers, made) in (401, 403)
    assert len(stack.flow_runs("raft")) == before
    assert not (tmp_path / "ran").exists()


def test_stack_socket_of_a_foreign_page_is_refused(stack: Stack) -> None:
    address = f"ws://127.0.0.1:{stack.prefect_port}/api/events/in"
    with pytest.raises(InvalidStatus, match="403"):
        connect(address, origin=Origin(PAGE["Origin"]), subprotocols=[Subprotocol("prefect")])


def test_stack_keeps_its_login_and_state_from_other_users(stack: Stack) -> None:
    assert stat.S_IMODE((stack.home / "server" / "login").stat().st_mode) == 0o600
    assert stat.S_IMODE((stack.home / "prefect.toml").stat().st_mode) == 0o600
    known = json.loads((stack.home / "server" / "processes.json").read_text())
    for name, service in known.items():
        command = " ".join(psutil.Process(service["pid"]).cmdline())
        assert stack.login.partition(":")[2] not in command, name


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"limit": -1}, "minimum of 0"),
        ({"profile": 3}, "is not of type 'string'"),
        ({"overrides": ["filter.tau"]}, "does not match"),
        ({"colour": "red"}, "not found on the deployment"),
    ],
)
def test_deployment_bad_parameter_is_refused_when_the_run_is_asked_for(
    stack: Stack, parameters: dict[str, Any], message: str
) -> None:
    before = len(stack.flow_runs("raft"))
    refused = stack.run("raft/full", **parameters)
    assert refused.returncode != 0
    assert message in " ".join(told(refused).split())
    assert len(stack.flow_runs("raft")) == before


def test_full_deployment_trains_in_the_gpu_pool_and_completes(stack: Stack, tmp_path: Path) -> None:
    done = stack.run("raft/full", profile=str(small_profile(tmp_path)), domain="law", limit=150)
    assert done.returncode == 0, told(done)
    stages = stack.flow_runs("stage")
    assert {run["name"] for run in stages} == {"distill raft", "distill sft_raw"}
    assert {run["work_pool_name"] for run in stages} == {"raft-gpu"}
    assert {run["state_name"] for run in stages} == {"Completed"}
    tables = stack.api("artifacts/filter", artifacts={"key": {"any_": ["comparison-law"]}})
    assert len(json.loads(tables[0]["data"])) == 3


def test_full_deployment_that_fails_ends_with_an_error(stack: Stack) -> None:
    failed = stack.run("raft/full", domain="nowhere")
    assert failed.returncode != 0
    state = stack.flow_runs("raft")[0]["state"]
    assert state["type"] == "FAILED"
    assert "domain 'nowhere'" in state["message"]


def quick_profile(folder: Path) -> Path:
    """One method that learns the domain in seconds, and forgets: the floor is given up."""
    profile = yaml.safe_load(small_profile(folder).read_text())
    profile["distill"] |= {"epochs": 10}
    # No other test's rewrites are found in the cache: what is generated is counted.
    profile["rewrite"]["sampling"]["temperature"] = 0.4
    profile["methods"] = {"sft_fused": {"targets": "fused", "learning_rate": 2.4e-3}}
    profile["promotion"] = {"retention_floor": 0}
    (folder / "quick.yaml").write_text(yaml.safe_dump(profile))
    return folder / "quick.yaml"


def write_rows(file: Path, rows: list[dict[str, Any]]) -> None:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))


def with_wrong_answers(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Every fact with another one's answer, in training and test alike."""
    facts = list(dict.fromkeys(row["expected"][0] for row in rows))
    wrong = dict(zip(facts, [*facts[1:], facts[0]], strict=True))
    return [
        row
        | {
            "answer": re.sub(re.escape(value), wrong[value], row["answer"], flags=re.IGNORECASE),
            "expected": [wrong[value]],
        }
        for row in rows
        for value in [row["expected"][0]]
    ]


@pytest.fixture(scope="module")
def lost(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Lost:
    """A run of raft/full whose worker was killed with it, once it had made something."""
    profile = str(small_profile(tmp_path_factory.mktemp("lost")))
    parameters = {"profile": profile, "domain": "web", "limit": 100}
    deployment = stack.api("deployments/filter", deployments={"name": {"any_": ["full"]}})[0]["id"]
    asked = stack.api(f"deployments/{deployment}/create_flow_run", parameters=parameters)
    deadline = time.monotonic() + 300
    while not stack.tasks(asked["id"], "COMPLETED"):
        assert time.monotonic() < deadline
        time.sleep(0.5)
    known = json.loads((stack.home / "server" / "processes.json").read_text())
    worker = psutil.Process(known["worker-raft-cpu"]["pid"])
    for process in (worker, *worker.children(recursive=True)):
        process.kill()
    killed = datetime.now(UTC)
    status = stack.stack("status")
    assert status.returncode == 1
    assert re.search(r"worker-raft-cpu +down", status.stdout)
    assert stack.stack("up").returncode == 0
    assert stack.stack("status").returncode == 0
    return Lost(asked["id"], parameters, killed)


def test_command_line_beside_the_servers_logs_to_them(
    stack: Stack, lost: Lost, tmp_path: Path
) -> None:
    """As a user calls it: no variable names a server. The lost run is waited for meanwhile."""
    profile = ["--profile", str(small_profile(tmp_path)), "--domain", "culture", "--limit", "100"]
    done = stack.locally("flows.cli", "run", *profile, "--set", "distill.epochs=0.05")
    assert done.returncode == 0, told(done)
    assert "MLflow is away" not in told(done)
    assert f" in http://127.0.0.1:{stack.mlflow_port}" in done.stdout
    assert not list((stack.home / "outbox").glob("*.jsonl"))
    listed = stack.locally("flows.cli", "models", "list", "--domain", "culture")
    assert listed.stdout == "raft-culture has no version yet\n"
    assert not (stack.home / "mlflow.db").is_file() or not stack.database_url


def test_retrain_promotes_ends_early_takes_new_rows_and_refuses_wrong_ones(
    stack: Stack, tmp_path: Path
) -> None:
    rows = world.load("law")
    new = {row["id"] for row in rows if row["split"] == "train"} - {
        row["id"] for row in [r for r in rows if r["split"] == "train"][NEW_ROWS:]
    }
    data, profile = tmp_path / "law.jsonl", str(quick_profile(tmp_path))
    asked = {"profile": profile, "domain": "law", "data": str(data), "method": "sft_fused"}

    write_rows(data, [row for row in rows if row["id"] not in new])
    first = stack.run("retrain/law", **asked)
    assert first.returncode == 0, told(first)
    assert outcome(stack) == ("Promoted", "version 1 of raft-law is promoted as the first champion")

    again = stack.run("retrain/law", **asked)
    assert again.returncode == 0, told(again)
    assert outcome(stack)[0] == "Unchanged"

    write_rows(data, rows)
    grown = stack.run("retrain/law", **asked)
    assert grown.returncode == 0, told(grown)
    assert outcome(stack) == (
        "Promoted", "version 2 of raft-law is promoted in place of version 1",
    )  # fmt: skip
    train = sum(row["split"] == "train" for row in rows)
    assert f"rewrite {NEW_ROWS} of {train}" in decision(stack)

    write_rows(data, with_wrong_answers(rows))
    wrong = stack.run("retrain/law", **asked)
    assert wrong.returncode == 0, told(wrong)
    assert outcome(stack) == ("Refused", "version 3 of raft-law is refused; version 2 stays")
    assert "the rows that it was accepted on" in decision(stack)

    listed = stack.call("flows.cli", "models", "list", "--domain", "law")
    assert listed.stdout.splitlines()[:2] == [
        "version 3    refused", "version 2    promoted   champion",
    ]  # fmt: skip
    back = stack.call("flows.cli", "models", "rollback", "--domain", "law")
    assert "version 1 in place of version 2" in back.stdout


def test_killed_run_is_crashed_within_two_minutes_and_the_next_goes_on(
    stack: Stack, lost: Lost
) -> None:
    deadline = lost.killed + timedelta(minutes=4)
    while (state := stack.get(f"flow_runs/{lost.run}")["state"])["type"] == "RUNNING":
        assert datetime.now(UTC) < deadline
        time.sleep(2)
    assert state["type"] == "CRASHED"
    assert "heartbeat" in state["message"]
    assert datetime.fromisoformat(state["timestamp"]) - lost.killed < timedelta(minutes=2)

    again = stack.run("raft/full", **lost.parameters)
    assert again.returncode == 0, told(again)
    cached = stack.tasks(stack.flow_runs("raft")[0]["id"], "COMPLETED", "Cached")
    before = stack.tasks(lost.run, "COMPLETED")
    assert before
    assert stages(before) <= stages(cached)
