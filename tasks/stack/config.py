"""Configuration of the servers: where they listen, where their state lies, what workers may run."""

from __future__ import annotations

import os
from pathlib import Path

from pydantic import Field, SecretStr

import raft_core
from raft_core.config.base import FrozenConfig
from raft_core.config.runtime import LOGIN_FILE, SERVER_NOTE
from tasks.serving import mlflow_server, prefect_server
from tasks.serving.inherited import for_servers
from tasks.serving.login import read_login

ROOT = Path(raft_core.__file__).resolve().parent.parent
LOOPBACK = "127.0.0.1"
CPU_POOL, GPU_POOL = "raft-cpu", "raft-gpu"
# Enough retries that a server or network away for some minutes delays a run only.
CLIENT_RETRIES = 8
HEARTBEAT_SECONDS = 30


class StackConfig(FrozenConfig):
    """One machine's servers and workers; all listen on loopback alone, behind one login."""

    home: Path = Field(description="what RAFT_HOME names: store, MLflow's runs, the servers' state")
    client_file: Path = Field(
        ROOT / "prefect.toml", description="tells commands that are called beside it of the server"
    )
    prefect_port: int = Field(4200, gt=0, lt=65536)
    mlflow_port: int = Field(5000, gt=0, lt=65536)
    database_url: SecretStr | None = Field(
        None, description="a PostgreSQL server; SQLite files below home where absent"
    )
    server_url: str | None = Field(
        None, description="API of a Prefect server that runs elsewhere; this machine's where absent"
    )
    flows: int = Field(gt=0, description="flow runs at once in the pool raft-cpu")
    gpus: int = Field(gt=0, description="stages at once in the pool raft-gpu")

    @property
    def folder(self) -> Path:
        """Logs and state of the servers."""
        return self.home / "server"

    @property
    def mlflow_note(self) -> Path:
        """The file that tells runs of this home, started beside the setup, where MLflow listens."""
        return self.folder / SERVER_NOTE

    @property
    def login_file(self) -> Path:
        """The file with the login of both servers, which only the home's owner can read."""
        return self.folder / LOGIN_FILE

    @property
    def login(self) -> str | None:
        """The login of this machine's servers; None where they run elsewhere."""
        return None if self.server_url else read_login(self.login_file)

    @property
    def api_url(self) -> str:
        """The address of Prefect's API."""
        return self.server_url or f"http://{LOOPBACK}:{self.prefect_port}/api"

    @property
    def mlflow_url(self) -> str:
        """The address of MLflow's server."""
        return f"http://{LOOPBACK}:{self.mlflow_port}"

    def worker_environment(self) -> dict[str, str]:
        """Return the environment of workers, and so of flow runs, with this shell's keys."""
        # Only the servers get the database's password.
        inherited = {name: value for name, value in os.environ.items() if name != "DATABASE_URL"}
        login = self.login or ""
        logins = {**prefect_server.client_settings(login), **mlflow_server.client_settings(login)}
        return inherited | self._places() | (logins if login else {})

    def server_environment(self) -> dict[str, str]:
        """Return the environment of the servers: no key of this shell, no login of a client."""
        return for_servers() | self._places()

    def _places(self) -> dict[str, str]:
        paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
        return {
            "PREFECT_HOME": str(self.folder / "prefect"),
            "PREFECT_API_URL": self.api_url,
            "PREFECT_CLIENT_MAX_RETRIES": str(CLIENT_RETRIES),
            "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": str(HEARTBEAT_SECONDS),
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "PREFECT_WORKER_QUERY_SECONDS": "5",
            "DO_NOT_TRACK": "1",
            "MLFLOW_TRACKING_URI": self.mlflow_url,
            "RAFT_HOME": str(self.home),
            "RAFT_ROOT": str(ROOT),
            "PYTHONPATH": os.pathsep.join(paths),
        }
