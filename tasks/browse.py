"""`raft ui`: MLflow's own server on loopback, and the address of the page that lists the runs."""

from __future__ import annotations

import argparse
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

from raft_core.app.settings import load_runtime
from raft_core.config.runtime import RuntimeConfig
from raft_core.errors import InputError
from raft_core.store.private_files import keep_private
from tasks.serving import mlflow_server
from tasks.serving.access import keep_direct
from tasks.serving.inherited import for_servers
from tasks.serving.login import made_login
from tasks.tracking import UI_PORT, experiment_id, masked

POLL_SECONDS = 0.3


def main(arguments: Sequence[str]) -> int:
    """Serve the runs on loopback: `raft ui`.

    Raises:
        InputError: there is no run yet, or the port is taken.
    """
    parser = argparse.ArgumentParser(
        prog="raft ui", description=__doc__, epilog="example: raft ui --port 5001"
    )
    parser.add_argument("--port", type=int, default=UI_PORT)
    parser.add_argument("--profile", default="mini", help="conf/PROFILE.yaml, or a file")
    options = parser.parse_args(arguments)
    return browse(load_runtime(options.profile), options.port)


def browse(runtime: RuntimeConfig, port: int) -> int:
    """Serve the runs until Ctrl-C, or until the process that started this one ends.

    Raises:
        InputError: there is no run yet, or the port is taken.
    """
    keep_private(runtime.home_folder)
    keep_direct()
    uri = runtime.tracking_uri
    if uri.startswith("http"):
        print(f"runs: {masked(uri)} (the server that is set, or that make up started)")
        return 0
    experiment = experiment_id(runtime)
    if experiment is None:
        raise InputError(f"no runs yet in {masked(uri)}; `make run` makes the first")
    require_free(port)
    log = runtime.home_folder / "mlflow-server.log"
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    server = start_server(runtime, port, log)
    parent, announced = os.getppid(), False
    try:
        while server.poll() is None and os.getppid() == parent:
            if not announced and answers(port):
                page = f"http://127.0.0.1:{port}/#/experiments/{experiment}/runs"
                print(f"runs: {page}  (Ctrl-C ends the server; its log is {log})")
                print(f"login: {runtime.login_file}  (user:password)", flush=True)
                announced = True
            time.sleep(POLL_SECONDS)
        return server.poll() or 0
    except KeyboardInterrupt:
        return 0
    finally:
        server.terminate()
        server.wait(timeout=20)


def start_server(runtime: RuntimeConfig, port: int, log: Path) -> subprocess.Popen[bytes]:
    home, login = runtime.home_folder, made_login(runtime.login_file)
    settings = mlflow_server.server_settings(home, port, runtime.tracking_uri, login)
    with open(log, "wb") as output:
        return subprocess.Popen(
            mlflow_server.command(home, port),
            env=for_servers() | settings,
            stdout=output,
            stderr=subprocess.STDOUT,
        )


def require_free(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise InputError(
                f"port {port}: {error.strerror}; choose another one: --port NUMBER"
            ) from None


def answers(port: int) -> bool:
    try:
        with urlopen(f"http://127.0.0.1:{port}/health", timeout=2) as response:
            return bool(response.status == 200)
    except (URLError, OSError):
        return False
