"""Prefect's server, for one run or for every day.

Like `prefect server start`, with what no setting of Prefect 3.7.7 brings: it answers to its own
name and its own page alone, and can listen on a socket that it inherits.
"""

from __future__ import annotations

import argparse
import gc
import os
import socket
from pathlib import Path
from typing import Any

from raft_core.execution.stage_server import die_with_parent
from tasks.serving.access import LOCAL_NAMES, LocalAccess

DATABASE_URLS = {
    "PREFECT_API_DATABASE_CONNECTION_URL",
    "PREFECT_SERVER_DATABASE_CONNECTION_URL",
}


def server_settings(origin: str, login: str) -> dict[str, str]:
    """Return the environment of a server that this login opens, from this origin's page alone."""
    return {
        "PREFECT_SERVER_API_AUTH_STRING": login,
        "PREFECT_SERVER_CSRF_PROTECTION_ENABLED": "true",
        "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": origin,
        # Relative, so that the page works through a tunnel too.
        "PREFECT_SERVER_UI_API_URL": "/api",
    }


def client_settings(login: str) -> dict[str, str]:
    """Return what a client of such a server finds in its environment."""
    return {"PREFECT_API_AUTH_STRING": login}


def serve_daily(host: str, port: int, names: list[str]) -> None:
    """Serve until told to end, with all services and the pages."""
    import uvicorn
    from prefect.server.api.server import create_app
    from prefect.settings import get_current_settings

    server = get_current_settings().server
    uvicorn.run(
        LocalAccess(create_app(final=True), names),
        host=host,
        port=port,
        timeout_keep_alive=server.api.keepalive_timeout,
        log_level=server.logging_level.lower(),
    )


def serve_temporary(descriptor: int, home: Path) -> None:
    """Serve on an inherited socket until the flow ends."""
    from tasks import prefect_schema

    die_with_parent()
    if not DATABASE_URLS & os.environ.keys():
        prefect_schema.place(home)
    gc.disable()  # imports make hardly any garbage
    import uvicorn
    from prefect.server.api.server import create_app

    app: Any = LocalAccess(create_app(ephemeral=True, final=True))
    gc.freeze()
    gc.enable()
    config = uvicorn.Config(app, log_level="error", lifespan="on")
    uvicorn.Server(config).run(sockets=[socket.socket(fileno=descriptor)])


def main() -> None:
    """Serve as the command line says."""
    parser = argparse.ArgumentParser(prog="python -m tasks.serving.prefect_server")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=4200)
    parser.add_argument(
        "--names", default="", help="host names that it is known by beside this machine's, by comma"
    )
    options = parser.parse_args()
    names = [name.strip() for name in options.names.split(",") if name.strip()]
    serve_daily(options.host, options.port, [*LOCAL_NAMES, *names])


if __name__ == "__main__":
    main()
