"""The processes of the setup: their commands, and how to see that they work."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.error import URLError
from urllib.request import urlopen

from tasks.serving import mlflow_server
from tasks.serving.login import made_login
from tasks.serving.prefect_server import server_settings
from tasks.stack.config import CPU_POOL, GPU_POOL, LOOPBACK, StackConfig
from tasks.stack.databases import Databases

LOGGING_FILE = "logging.yaml"


@dataclass(frozen=True, slots=True)
class Service:
    """One process; a server has a port and a page that answers, a worker has a pool.

    `secrets` are environment variables of this process alone.
    """

    name: str
    command: tuple[str, ...]
    port: int | None = None
    health: str = ""
    page: str = ""
    pool: str = ""
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)

    def answers(self) -> bool:
        """Return whether the server's health page answers with 200."""
        try:
            with urlopen(self.health, timeout=5) as response:
                return bool(response.status == 200)
        except (URLError, OSError):
            return False


def servers(config: StackConfig, databases: Databases) -> list[Service]:
    """Return both servers; their login is made where this home has none."""
    prefect = (sys.executable, "-m", "tasks.serving.prefect_server")
    login, page = made_login(config.login_file), f"http://{LOOPBACK}:{config.prefect_port}"
    return [
        Service(
            "prefect-server",
            (*prefect, "--host", LOOPBACK, "--port", str(config.prefect_port)),
            port=config.prefect_port,
            health=f"{config.api_url}/health",
            page=page,
            secrets={
                **server_settings(page, login),
                "PREFECT_SERVER_DATABASE_CONNECTION_URL": databases.prefect,
                "PREFECT_LOGGING_SETTINGS_PATH": str(config.folder / LOGGING_FILE),
            },
        ),
        Service(
            "mlflow-server",
            mlflow_server.command(config.home, config.mlflow_port),
            port=config.mlflow_port,
            health=f"{config.mlflow_url}/health",
            page=config.mlflow_url,
            secrets=mlflow_server.server_settings(
                config.home, config.mlflow_port, databases.mlflow, login
            ),
        ),
    ]


def workers() -> list[Service]:
    """Return a worker for each pool."""
    command = (sys.executable, "-m", "prefect", "worker", "start", "--type", "process")
    return [
        Service(f"worker-{pool}", (*command, "--pool", pool, "--name", pool), pool=pool)
        for pool in (CPU_POOL, GPU_POOL)
    ]
