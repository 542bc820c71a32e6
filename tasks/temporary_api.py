"""Prefect's API for one flow: a server that starts while the flow still imports Prefect.

Prefect would start the same server by itself, but only once it is imported and asks for something;
and it would import the server's code into the flow's process too, for its address. Here the flow
listens first, so that it knows the address at once, and the server inherits the socket: what asks
before the server is there waits in the socket's queue.
"""

from __future__ import annotations

import atexit
import socket
import subprocess
import sys
from pathlib import Path
from urllib.request import urlopen

from raft_core.errors import StageError
from raft_core.execution.processes import importable
from tasks.serving.inherited import for_servers
from tasks.serving.prefect_server import server_settings

HOST = "127.0.0.1"
START_SECONDS = 120.0
STOP_SECONDS = 5.0


class TemporaryApi:
    """One server, with its state in `home`; it ends with this process, however that one ends.

    Only who knows `login`, which this process and its children do, is let in.
    """

    def __init__(self, home: Path, login: str) -> None:
        self._log = home / "server.log"
        with socket.create_server((HOST, 0), backlog=128) as listening:
            origin = f"http://{HOST}:{listening.getsockname()[1]}"
            self.url = f"{origin}/api"
            descriptor = listening.fileno()
            with open(self._log, "w") as log:
                self._process = subprocess.Popen(
                    [sys.executable, "-m", "tasks.temporary_api", str(descriptor), str(home)],
                    pass_fds=[descriptor],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    env=for_servers() | importable() | server_settings(origin, login),
                )
        atexit.register(self.stop)

    def require_answer(self) -> None:
        """Wait until it answers.

        Raises:
            StageError: it does not start.
        """
        try:
            with urlopen(f"{self.url}/health", timeout=START_SECONDS):
                return
        except OSError as error:
            raise StageError(
                f"Prefect's temporary server does not answer ({error}); its log is {self._log}"
            ) from None

    def stop(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()


if __name__ == "__main__":
    from tasks.serving.prefect_server import serve_temporary

    serve_temporary(int(sys.argv[1]), Path(sys.argv[2]))
