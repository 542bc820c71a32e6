"""Servers and workers of one machine: addresses, secrets, and processes that are found again."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from raft_core.errors import InputError, StageError
from tasks.serving.login import made_login
from tasks.stack.__main__ import deploy, down
from tasks.stack.config import StackConfig
from tasks.stack.databases import Databases, open_databases
from tasks.stack.lifecycle import Processes, require_free
from tasks.stack.services import Service, servers, workers

SLEEPER = "import subprocess, sys; p = subprocess.Popen(['sleep', '600']); p.wait()"


@pytest.fixture
def config(tmp_path: Path) -> StackConfig:
    return StackConfig(home=tmp_path, flows=1, gpus=1)


@pytest.fixture
def processes(config: StackConfig) -> Iterator[Processes]:
    found = Processes(config)
    yield found
    for name in found.names():
        found.end(name)


def service(code: str = SLEEPER, name: str = "sleeper") -> Service:
    return Service(name, (sys.executable, "-c", code))


def test_process_is_found_again_by_another_call(config: StackConfig, processes: Processes) -> None:
    processes.start(service(), {})
    found = Processes(config).find("sleeper")
    assert found is not None
    assert found.is_running()


def test_process_ends_with_all_that_it_started(processes: Processes) -> None:
    processes.start(service(), {})
    process = processes.find("sleeper")
    assert process is not None
    while not process.children():
        pass
    (child,) = process.children()
    assert processes.end("sleeper")
    assert not process.is_running()
    assert not child.is_running()
    assert processes.names() == []


def test_down_ends_workers_at_once_and_then_the_servers(
    config: StackConfig, processes: Processes, capsys: pytest.CaptureFixture[str]
) -> None:
    config = config.model_copy(update={"client_file": config.home / "prefect.toml"})
    names = ["prefect-server", *(worker.name for worker in workers())]
    for name in names:
        processes.start(service(name=name), {})
    made_login(config.login_file)
    config.client_file.write_text(f'auth_string = "{config.login}"\n')
    assert down(config) == 0
    assert not config.client_file.exists()
    told = capsys.readouterr().out.splitlines()
    assert [line.split()[1] for line in told] == ["ended"] * 3
    assert told[-1].split()[0] == "prefect-server"
    assert processes.names() == []


def test_down_leaves_the_note_of_another_home(config: StackConfig, processes: Processes) -> None:
    config = config.model_copy(update={"client_file": config.home / "prefect.toml"})
    processes.start(service(), {})
    made_login(config.login_file)
    config.client_file.write_text('auth_string = "raft:of another home"\n')
    assert down(config) == 0
    assert config.client_file.exists()


def test_down_where_nothing_was_started_says_so(
    config: StackConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    config = config.model_copy(update={"client_file": config.home / "prefect.toml"})
    assert down(config) == 0
    assert "nothing was started" in capsys.readouterr().out


def test_process_that_has_ended_is_not_found(processes: Processes) -> None:
    processes.start(service("pass"), {})
    known = json.loads((processes.log("sleeper").parent / "processes.json").read_text())
    psutil.wait_procs([psutil.Process(known["sleeper"]["pid"])], timeout=30)
    assert processes.find("sleeper") is None
    assert processes.end("sleeper") is False


def test_process_number_that_is_used_again_is_another_process(
    config: StackConfig, processes: Processes
) -> None:
    stranger = subprocess.Popen(["sleep", "600"])
    try:
        known = {"sleeper": {"pid": stranger.pid, "started": 1.0}}
        (config.home / "server").mkdir()
        (config.home / "server" / "processes.json").write_text(json.dumps(known))
        assert processes.find("sleeper") is None
        assert processes.end("sleeper") is False
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_wait_until_process_that_ended_is_an_error_with_its_last_lines(
    processes: Processes,
) -> None:
    broken = service("raise SystemExit('no such database')")
    processes.start(broken, {})
    with pytest.raises(StageError, match="no such database"):
        processes.wait_until(broken, lambda: False)


def test_port_that_is_taken_is_an_error_that_names_the_variable() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        server = Service("prefect-server", (), port=taken.getsockname()[1])
        with pytest.raises(InputError, match="make up PREFECT_PORT="):
            require_free(server, "PREFECT_PORT")


def test_services_listen_on_loopback_alone(config: StackConfig) -> None:
    for server in servers(config, Databases("sqlite:///p", "sqlite:///m")):
        assert server.command[server.command.index("--host") + 1] == "127.0.0.1"
        assert server.page.startswith("http://127.0.0.1:")


def test_services_passwords_stand_in_no_command_and_no_repr(config: StackConfig) -> None:
    secret = Databases("postgresql://u:hidden@h/p", "postgresql://u:hidden@h/m")
    found = servers(config, secret)
    assert "hidden" not in repr((secret, found, [each.command for each in found]))
    assert sum("hidden" in value for each in found for value in each.secrets.values()) == 2
    assert not any(worker.secrets for worker in workers())


def test_databases_without_address_are_files_below_home(config: StackConfig) -> None:
    databases = open_databases(config)
    assert databases.prefect == f"sqlite+aiosqlite:///{config.home}/server/prefect.db"
    assert databases.mlflow == f"sqlite:///{config.home}/mlflow.db"


def test_environment_of_workers_has_no_password_of_the_database(
    config: StackConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://u:hidden@h/p")
    assert "hidden" not in "".join(config.worker_environment().values())


@pytest.mark.parametrize("missing", ["PREFECT_API_URL", "RAFT_ROOT", "RAFT_HOME"])
def test_deploy_without_a_place_is_one_error_that_names_it(
    missing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    places = {"PREFECT_API_URL": "http://127.0.0.1:1/api", "RAFT_ROOT": "/r", "RAFT_HOME": "/h"}
    monkeypatch.setenv("RAFT_STORE", str(tmp_path / "store"))
    for name, value in places.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv(missing)
    url = None if missing == "PREFECT_API_URL" else places["PREFECT_API_URL"]
    with pytest.raises(InputError, match=f"{missing} is not set"):
        deploy(StackConfig(home=tmp_path, flows=1, gpus=1, server_url=url))


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("nonsense", "not an address"),
        ("mysql://root:hidden@127.0.0.1/x", "is not postgresql://"),
        ("postgresql://root:hidden@127.0.0.1", "is not postgresql://"),
        ("postgresql://root:hidden@127.0.0.1:1/raft", "refused"),
    ],
)
def test_databases_address_that_cannot_be_used_one_error_without_the_password(
    tmp_path: Path, address: str, message: str
) -> None:
    config = StackConfig(home=tmp_path, flows=1, gpus=1, database_url=address)
    with pytest.raises(InputError, match=message) as caught:
        open_databases(config, create=True)
    assert "hidden" not in str(caught.value)
    assert "hidden" not in repr(config)
