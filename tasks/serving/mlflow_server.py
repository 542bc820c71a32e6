"""MLflow's server behind this home's login.

MLflow's own login (`basic-auth`, as in docker/) takes pages of every port of this machine for its
own; here one person's server asks for the login before MLflow sees a request. MLflow starts an
application of another package by the entry point `mlflow.app`.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from raft_core.execution.processes import importable
from tasks.serving.access import LocalAccess
from tasks.serving.login import write_private

LOGIN = "RAFT_MLFLOW_LOGIN"
PLUGIN = "raft"
ENTRY_POINTS = f"[mlflow.app]\n{PLUGIN} = {__name__}:create_app\n"


def create_app() -> Any:
    """Return MLflow's application behind the login; MLflow calls it in the server's process."""
    from mlflow.server.fastapi_app import app

    return LocalAccess(app, login=os.environ[LOGIN])


def command(home: Path, port: int) -> tuple[str, ...]:
    """Return the program and its arguments; the environment names the rest."""
    server = (sys.executable, "-m", "mlflow", "server", "--workers", "1", "--app-name", PLUGIN)
    # Runs that start beside the server write their files to the same folder.
    stored = ("--no-serve-artifacts", "--default-artifact-root", (home / "mlartifacts").as_uri())
    return (*server, "--host", "127.0.0.1", "--port", str(port), *stored)


def server_settings(home: Path, port: int, database: str, login: str) -> dict[str, str]:
    """Return the server's environment; the home keeps the entry point that it is found by.

    Args:
        home: the folder of `mlartifacts`.
        port: where it listens, on loopback.
        database: SQLAlchemy's address; it may hold a password.
        login: `user:password`.
    """
    plugin = home / "server" / "plugins" / "raft_mlflow-1.dist-info"
    plugin.mkdir(parents=True, exist_ok=True)
    write_private(plugin / "METADATA", "Metadata-Version: 2.1\nName: raft-mlflow\nVersion: 1\n")
    write_private(plugin / "entry_points.txt", ENTRY_POINTS)
    paths = [importable()["PYTHONPATH"], str(plugin.parent)]
    names = ("127.0.0.1", "localhost")
    return {
        LOGIN: login,
        "MLFLOW_BACKEND_STORE_URI": database,
        "PYTHONPATH": os.pathsep.join(paths),
        "MLFLOW_SERVER_ALLOWED_HOSTS": ",".join(f"{name}:{port}" for name in names),
        "MLFLOW_SERVER_CORS_ALLOWED_ORIGINS": f"http://127.0.0.1:{port}",
        "MLFLOW_SERVER_X_FRAME_OPTIONS": "DENY",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }


def client_settings(login: str) -> dict[str, str]:
    """Return what a client of the server finds in its environment."""
    user, _, password = login.partition(":")
    return {"MLFLOW_TRACKING_USERNAME": user, "MLFLOW_TRACKING_PASSWORD": password}
