"""Start, find and stop the processes of the setup."""

from __future__ import annotations

import json
import socket
import subprocess
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import psutil

from raft_core.errors import InputError, StageError
from tasks.stack.config import ROOT, StackConfig
from tasks.stack.services import Service

START_SECONDS = 180.0
END_SECONDS, CHILD_SECONDS = 25.0, 5.0
POLL_SECONDS = 0.5
LOG_TAIL = 12
LOG_BYTES = 20 * 2**20  # a longer log is put aside before the next start


class Processes:
    """The processes that were started, by service, remembered between calls in one file.

    A process is known by its number and the time it started at, because numbers are used again.
    """

    def __init__(self, config: StackConfig) -> None:
        self._config = config
        self._file = config.folder / "processes.json"

    def log(self, service: str) -> Path:
        """Return the log file of a service."""
        return self._config.folder / f"{service}.log"

    def find(self, service: str) -> psutil.Process | None:
        """Return the running process of a service, if there is one."""
        known = self._known().get(service)
        if known is None:
            return None
        with suppress(psutil.NoSuchProcess):
            process = psutil.Process(int(known["pid"]))
            same = abs(process.create_time() - known["started"]) < 1
            if same and process.status() != psutil.STATUS_ZOMBIE:
                return process
        return None

    def port(self, service: str) -> int:
        """Return the port that a running service was started on."""
        return int(self._known()[service].get("port", 0))

    def names(self) -> list[str]:
        """Return all services that were started and not stopped, in order of their start."""
        return list(self._known())

    def start(self, service: Service, environment: Mapping[str, str]) -> None:
        """Start a service apart from this terminal; what it prints goes to its log."""
        self._config.folder.mkdir(parents=True, exist_ok=True)
        if self.log(service.name).is_file() and self.log(service.name).stat().st_size > LOG_BYTES:
            self.log(service.name).replace(self.log(service.name).with_suffix(".log.1"))
        with open(self.log(service.name), "ab") as log:
            process = subprocess.Popen(
                service.command,
                cwd=ROOT,
                env={**environment, **service.secrets},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        started = psutil.Process(process.pid).create_time()
        told = {"pid": process.pid, "started": started, "port": service.port or 0}
        self._remember(self._known() | {service.name: told})

    def end(self, service: str) -> bool:
        """Stop a service and all that it started; return whether it was running."""
        return bool(self.end_together([service]))

    def end_together(self, services: Collection[str]) -> set[str]:
        """Stop services at once, with all that they started; return those that were running."""
        found = {name: process for name in services if (process := self.find(name)) is not None}
        processes = list(found.values())
        children = [child for process in processes for child in process.children(recursive=True)]
        end_processes(processes, END_SECONDS)
        end_processes(children, CHILD_SECONDS)
        self._remember({name: p for name, p in self._known().items() if name not in services})
        return set(found)

    def wait_until(self, service: Service, works: Callable[[], bool]) -> None:
        """Wait until a service works.

        Raises:
            StageError: it ended, or does not work after three minutes.
        """
        deadline = time.monotonic() + START_SECONDS
        while not works():
            if self.find(service.name) is None:
                raise StageError(f"{service.name} ended at once:\n{self._tail(service.name)}")
            if time.monotonic() > deadline:
                log = self.log(service.name)
                raise StageError(f"{service.name} does not answer; its log is {log}")
            time.sleep(POLL_SECONDS)

    def _tail(self, service: str) -> str:
        lines = self.log(service).read_text(errors="replace").splitlines()
        return "\n".join(lines[-LOG_TAIL:])

    def _known(self) -> dict[str, dict[str, float]]:
        try:
            known: dict[str, dict[str, float]] = json.loads(self._file.read_text())
        except (OSError, ValueError):
            return {}
        return known

    def _remember(self, known: Mapping[str, Mapping[str, float]]) -> None:
        partial = self._file.with_suffix(".partial")
        partial.write_text(json.dumps(known))
        partial.rename(self._file)


def end_processes(processes: Sequence[psutil.Process], patience: float) -> None:
    """Ask processes to end, and kill those that are left after `patience` seconds."""
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.terminate()
    _, alive = psutil.wait_procs(processes, timeout=patience)
    for process in alive:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(alive, timeout=patience)


def require_free(service: Service, variable: str) -> None:
    """Require that the port of a server is not taken.

    Raises:
        InputError: it is.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", service.port or 0))
        except OSError as error:
            raise InputError(
                f"{service.name}: port {service.port}: {error.strerror}; "
                f"choose another with make up {variable}=NUMBER"
            ) from None
