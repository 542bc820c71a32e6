"""Servers and workers of `make up` on ports and a home of their own, for tests."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

from tasks.serving import mlflow_server, prefect_server
from tasks.serving.access import basic
from tasks.serving.login import read_login
from tests.integration.flow import ROOT


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass(frozen=True)
class Stack:
    """What runs, and how to ask it."""

    home: Path
    prefect_port: int
    mlflow_port: int
    database_url: str = ""

    @property
    def environment(self) -> dict[str, str]:
        return os.environ | {
            "RAFT_HOME": str(self.home),
            "PREFECT_API_URL": f"http://127.0.0.1:{self.prefect_port}/api",
            "MLFLOW_TRACKING_URI": f"http://127.0.0.1:{self.mlflow_port}",
            **self.logins,
            "DATABASE_URL": self.database_url,
            "COLUMNS": "200",
        }

    @property
    def login(self) -> str:
        """As `make up` keeps it; empty before."""
        return read_login(self.home / "server" / "login") or ""

    @property
    def logins(self) -> dict[str, str]:
        login = self.login
        both = prefect_server.client_settings(login) | mlflow_server.client_settings(login)
        return both if login else {}

    def call(self, *command: str, timeout: float = 850) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", *command],
            cwd=ROOT,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=timeout,
        )

    def locally(self, *command: str) -> subprocess.CompletedProcess[str]:
        """As a user calls it from the folder where `make up` was called."""
        beside = {"PREFECT_API_URL", "MLFLOW_TRACKING_URI", "DATABASE_URL", *self.logins}
        environment = {k: v for k, v in self.environment.items() if k not in beside}
        return subprocess.run(
            [sys.executable, "-m", *command],
            cwd=self.home,
            env=environment | {"PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=600,
        )

    def stack(self, action: str) -> subprocess.CompletedProcess[str]:
        ports = ["--prefect-port", str(self.prefect_port), "--mlflow-port", str(self.mlflow_port)]
        client_file = ["--client-file", str(self.home / "prefect.toml")]
        return self.call("tasks.stack", action, *ports, *client_file)

    def run(self, deployment: str, **parameters: Any) -> subprocess.CompletedProcess[str]:
        """`prefect deployment run --watch`."""
        chosen = [f"-p={name}={json.dumps(value)}" for name, value in parameters.items()]
        return self.call("prefect", "deployment", "run", deployment, "--watch", *chosen)

    def api(self, path: str, **body: Any) -> Any:
        """What Prefect's API answers to a POST, from one who knows the login."""
        token = self.get("csrf-token?client=tests")["token"]
        proof = {"Prefect-Csrf-Token": token, "Prefect-Csrf-Client": "tests"}
        return self._ask(path, json.dumps(body).encode(), proof)

    def get(self, path: str) -> Any:
        return self._ask(path, None, {})

    def _ask(self, path: str, body: bytes | None, headers: dict[str, str]) -> Any:
        url = f"http://127.0.0.1:{self.prefect_port}/api/{path}"
        headers |= {"Content-Type": "application/json", "Authorization": basic(self.login)}
        with urlopen(Request(url, body, headers), timeout=30) as response:
            return json.load(response)

    def status(self, port: int, path: str, headers: dict[str, str], body: Any) -> int:
        """What a server answers to a POST, whatever it is."""
        asked = HTTPConnection("127.0.0.1", port, timeout=30)
        try:
            asked.request("POST", path, json.dumps(body), headers)
            return asked.getresponse().status
        finally:
            asked.close()

    def tasks(self, run: str, kind: str, name: str | None = None) -> list[dict[str, Any]]:
        """A flow run's tasks in states of this type, and of this name."""
        states: dict[str, Any] = {"type": {"any_": [kind]}}
        states |= {"name": {"any_": [name]}} if name else {}
        found: list[dict[str, Any]] = self.api(
            "task_runs/filter",
            flow_runs={"id": {"any_": [run]}},
            task_runs={"state": states},
        )
        return found

    def flow_runs(self, flow: str) -> list[dict[str, Any]]:
        """Runs of a flow, the latest first."""
        found: list[dict[str, Any]] = self.api(
            "flow_runs/filter", flows={"name": {"any_": [flow]}}, sort="EXPECTED_START_TIME_DESC"
        )
        return [run for run in found if run["state_type"] != "SCHEDULED"]
