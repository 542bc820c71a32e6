"""`raft stack up|down|status`: servers and workers of this machine.

`raft stack deploy` sets up a server that runs elsewhere, which PREFECT_API_URL names.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from raft_core.config.runtime import RuntimeConfig
from raft_core.errors import InputError, RaftError
from raft_core.store.private_files import keep_private
from tasks.serving.access import keep_direct
from tasks.serving.login import write_private
from tasks.stack.config import HEARTBEAT_SECONDS, ROOT, StackConfig
from tasks.stack.databases import open_databases
from tasks.stack.lifecycle import Processes, require_free
from tasks.stack.orchestration import online_workers, set_up, write_logging
from tasks.stack.services import Service, servers, workers
from tasks.stack.storage import make_bucket
from tasks.tracking.users import ensure_user

DEPLOYMENTS = ROOT / "prefect.yaml"
CLIENT_FILE = ROOT / "prefect.toml"
PORTS = {"prefect-server": "PREFECT_PORT", "mlflow-server": "MLFLOW_PORT"}
CORES_A_FLOW = 2
WORKER_USER = "raft"  # the workers' user in an MLflow that has users


def main(arguments: Sequence[str] | None = None) -> int:
    """Act on the servers and workers, and return the exit code."""
    parser = argparse.ArgumentParser(
        prog="raft stack", description=__doc__, epilog="example: raft stack up"
    )
    parser.add_argument("action", choices=sorted(ACTIONS))
    parser.add_argument("--prefect-port", type=int, default=4200)
    parser.add_argument("--mlflow-port", type=int, default=5000)
    cores = os.cpu_count() or 1
    parser.add_argument("--flows", type=int, default=max(1, cores // CORES_A_FLOW))
    parser.add_argument("--gpus", type=int, default=max(1, count_gpus()))
    parser.add_argument("--client-file", type=Path, default=CLIENT_FILE)
    options = parser.parse_args(arguments)
    if ACTIONS[options.action] in (up, deploy) and not DEPLOYMENTS.is_file():
        raise InputError(f"{DEPLOYMENTS}: no such file; call `raft stack` of a checkout")
    config = StackConfig(
        client_file=options.client_file,
        home=RuntimeConfig().home_folder,
        prefect_port=options.prefect_port,
        mlflow_port=options.mlflow_port,
        database_url=os.environ.get("DATABASE_URL") or None,
        flows=options.flows,
        gpus=options.gpus,
        server_url=os.environ.get("PREFECT_API_URL") if options.action == "deploy" else None,
    )
    try:
        keep_private(config.home)
        keep_direct()
        return ACTIONS[options.action](config)
    except RaftError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code


def up(config: StackConfig) -> int:
    """Start what is not running, set the Prefect server up, and wait until all of it works."""
    processes = Processes(config)
    databases = open_databases(config, create=True)
    if not any(map(processes.find, processes.names())):
        # After a crash another program may have taken the port and received the old login.
        config.login_file.unlink(missing_ok=True)
    write_logging(config.folder)
    for server in servers(config, databases):
        if processes.find(server.name) is None:
            require_free(server, PORTS[server.name])
            processes.start(server, config.server_environment())
        elif processes.port(server.name) != server.port:
            raise InputError(
                f"{server.name} runs on port {processes.port(server.name)}; call make down first"
            )
    for server in servers(config, databases):
        processes.wait_until(server, server.answers)
        print(f"  {server.name:<16} {server.page}")
    set_up(config, config.worker_environment())
    for worker in workers():
        if processes.find(worker.name) is None:
            processes.start(worker, config.worker_environment())
    for worker in workers():
        processes.wait_until(
            worker, lambda pool=worker.pool: online_workers(config).get(pool, 0) > 0
        )
        print(f"  {worker.name:<16} pool {worker.pool}")
    write_private(
        config.client_file,
        "# Written by `make up`, removed by `make down`: what is called here asks it.\n"
        f'[api]\nurl = "{config.api_url}"\nauth_string = "{config.login}"\n'
        # Without heartbeats a run would count as lost.
        f"[flows]\nheartbeat_frequency = {HEARTBEAT_SECONDS}\n",
    )
    config.mlflow_note.write_text(f"{config.mlflow_url}\n")
    print(f"\nlogin           {config.login_file}  (for both pages; no other user can read it)")
    print(f"state and logs  {config.folder}")
    print("run             .venv/bin/prefect deployment run raft/full --watch")
    return 0


def deploy(config: StackConfig) -> int:
    """Give a server that runs elsewhere pools, automation and deployments, and the store a bucket.

    Where MLFLOW_WORKER_PASSWORD is set, MLflow gets the user that the workers log in as.

    Raises:
        InputError: no server is named, or no place, or the store cannot be reached.
    """
    if config.server_url is None:
        raise InputError("PREFECT_API_URL is not set: it names the server to deploy to")
    make_bucket(RuntimeConfig())
    for name in ("RAFT_ROOT", "RAFT_HOME"):
        if not os.environ.get(name):
            raise InputError(
                f"{name} is not set: where the workers have it; /opt/raft and /var/lib/raft in the "
                "images of docker/"
            )
    set_up(config, os.environ)
    if password := os.environ.get("MLFLOW_WORKER_PASSWORD"):
        ensure_user(RuntimeConfig().tracking_uri, WORKER_USER, password)
    print(f"deployed to {config.server_url}")
    return 0


def down(config: StackConfig) -> int:
    """Stop everything that `up` started, workers first."""
    processes = Processes(config)
    names = list(reversed(processes.names()))
    of_workers = {worker.name for worker in workers()}
    for together in (of_workers & set(names), set(names) - of_workers):
        ended = processes.end_together(together) if together else set()
        for name in filter(together.__contains__, names):
            print(f"  {name:<16} {'ended' if name in ended else 'was not running'}", flush=True)
    config.mlflow_note.unlink(missing_ok=True)
    if names:
        forget_server(config)
    else:
        print(f"  nothing was started for {config.home}")
    return 0


def forget_server(config: StackConfig) -> None:
    """Remove the note for clients, unless `up` of another home has written it since."""
    with suppress(OSError):
        if f'"{config.login}"' in config.client_file.read_text():
            config.client_file.unlink()


def status(config: StackConfig) -> int:
    """Print what runs and whether it works; return 1 where something does not."""
    processes, well = Processes(config), True
    found = servers(config, open_databases(config))
    answering = {server.name: server.answers() for server in found}
    online = online_workers(config) if answering["prefect-server"] else {}
    for service in (*found, *workers()):
        running = processes.find(service.name) is not None
        # The server shows a killed worker as online for another minute.
        works = answering.get(service.name, running and online.get(service.pool, 0) > 0)
        print(f"  {service.name:<16} {_state(service, running, works)}")
        well = well and works
    return 0 if well else 1


def _state(service: Service, running: bool, works: bool) -> str:
    where = service.page or f"pool {service.pool}"
    if works:
        return f"works   {where}"
    return f"silent  {where}" if running else "down"


def count_gpus() -> int:
    """Count the GPUs that the driver lists, without loading torch."""
    return len(list(Path("/proc/driver/nvidia/gpus").glob("*")))


ACTIONS = {"up": up, "deploy": deploy, "down": down, "status": status}

if __name__ == "__main__":
    sys.exit(main())
