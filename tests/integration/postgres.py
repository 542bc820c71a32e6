"""A PostgreSQL server of the tests' own, from the machine's packages."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

ROLE, PASSWORD = "raft", "the-secret-of-postgres"
# Debian keeps the server's programs out of PATH.
FOLDERS = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)


def program(name: str) -> str | None:
    places = os.pathsep.join([*map(str, FOLDERS), os.environ.get("PATH", "")])
    return shutil.which(name, path=places)


@dataclass(frozen=True)
class Postgres:
    """A running server; `variables` are libpq's."""

    port: int

    @property
    def variables(self) -> dict[str, str]:
        return {
            "PGHOST": "127.0.0.1",
            "PGPORT": str(self.port),
            "PGUSER": ROLE,
            "PGPASSWORD": PASSWORD,
        }

    def run(self, script: Path) -> None:
        """Run a file of SQL as the image does with what lies in its initdb folder."""
        called([found("psql"), "--quiet", "-v", "ON_ERROR_STOP=1", "-d", "postgres", "-f", script],
               self.variables)  # fmt: skip

    def count(self, database: str, table: str) -> int:
        command = [found("psql"), "-d", database, "-tAc", f"SELECT count(*) FROM {table}"]
        environment = {**os.environ, **self.variables}
        return int(subprocess.check_output(command, env=environment, timeout=60))


@contextmanager
def postgres(port: int) -> Iterator[Postgres]:
    """A server with a fresh cluster, on loopback, with passwords asked for."""
    with TemporaryDirectory(prefix="raft-postgres-") as folder:
        yield from running(Path(folder), port)


def running(folder: Path, port: int) -> Iterator[Postgres]:
    data, password = folder / "data", folder / "password"
    password.write_text(PASSWORD)
    if os.geteuid() == 0:  # the server refuses to run as root
        for path in (folder, password):
            shutil.chown(path, "postgres")
    as_user(found("initdb"), "-D", data, "-U", ROLE, "-A", "scram-sha-256", "--pwfile", password)
    options = f"-p {port} -k {folder} -c listen_addresses=127.0.0.1"
    control = [found("pg_ctl"), "-D", data, "-w"]
    as_user(*control, "-o", options, "-l", folder / "log", "start")
    try:
        yield Postgres(port)
    finally:
        as_user(*control, "-m", "immediate", "stop")


def found(name: str) -> str:
    path = program(name)
    assert path is not None
    return path


def as_user(*command: str | Path) -> None:
    before = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
    called([*before, *command], {})


def called(command: list[str | Path], variables: Mapping[str, str]) -> None:
    # A server that pg_ctl leaves behind would hold pipes open.
    done = subprocess.run(
        list(map(str, command)),
        env={**os.environ, **variables},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        timeout=120,
    )
    assert done.returncode == 0, command
