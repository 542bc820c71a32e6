"""MLflow's client, with the login of the server that this home started."""

from __future__ import annotations

import os
from typing import Any

from raft_core.config.runtime import RuntimeConfig
from tasks.serving.login import read_login
from tasks.serving.mlflow_server import client_settings


def open_client(runtime: RuntimeConfig) -> Any:
    """Return MLflow's client; a login that the environment names goes before the home's own."""
    from mlflow import MlflowClient

    note = runtime.server_note
    if note.is_file() and note.read_text().strip() == runtime.tracking_uri:
        login = read_login(runtime.login_file)
        settings = client_settings(login) if login else {}
        # A name from here with a password from there would be nobody's login.
        if not any(name in os.environ for name in settings):
            os.environ |= settings
    return MlflowClient(runtime.tracking_uri, registry_uri=runtime.tracking_uri)
