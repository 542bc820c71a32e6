"""docker/compose.yaml without an engine: its rules, and its services' own commands run natively.

Hosts of the compose network become ports of this machine's loopback; commands and environment are
otherwise those that the containers get.
"""

from __future__ import annotations

import base64
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

import pytest
import yaml

from tasks.stack.config import StackConfig
from tests.integration.flow import ROOT, small_profile
from tests.integration.postgres import PASSWORD, Postgres, postgres, program
from tests.integration.s3 import s3_server
from tests.integration.stack import free_port

COMPOSE = ROOT / "docker" / "compose.yaml"
SECRETS = {
    "POSTGRES_PASSWORD": PASSWORD,
    "PREFECT_AUTH": "raft:one-secret",
    "MLFLOW_PASSWORD": "another-long-secret",
    "MLFLOW_WORKER_PASSWORD": "the-workers-own-secret",
    "MLFLOW_SECRET_KEY": "a-third-secret-that-signs-sessions",
    "S3_ACCESS_KEY": "access",
    "S3_SECRET_KEY": "the-secret-of-s3",
}
HIDDEN = (
    "one-secret", "another-long-secret", "the-workers-own", "a-third-secret", "the-secret-of-s3",
    PASSWORD,
)  # fmt: skip

pytestmark = pytest.mark.timeout(900)


def configured(folder: Path, secrets: dict[str, str]) -> subprocess.CompletedProcess[str]:
    if shutil.which("docker-compose") is None:
        pytest.skip("needs docker-compose")
    (folder / "env").write_text("".join(f"{name}={value}\n" for name, value in secrets.items()))
    command = ["docker-compose", "-f", str(COMPOSE), "--env-file", str(folder / "env")]
    kept = {name: value for name, value in os.environ.items() if name not in SECRETS}
    return subprocess.run(
        [*command, "--profile", "gpu", "config"],
        env=kept, capture_output=True, text=True, timeout=60,
    )  # fmt: skip


@pytest.fixture(scope="module")
def services(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    done = configured(tmp_path_factory.mktemp("compose"), SECRETS)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = yaml.safe_load(done.stdout)["services"]
    return found


def is_loopback(port: Any) -> bool:
    """A published port, as docker-compose 1 or 2 writes it."""
    return (port["host_ip"] if isinstance(port, dict) else str(port).split(":")[0]) == "127.0.0.1"


@pytest.mark.parametrize("missing", sorted(SECRETS))
def test_compose_without_a_secret_is_refused_with_its_name(missing: str, tmp_path: Path) -> None:
    done = configured(tmp_path, {k: v for k, v in SECRETS.items() if k != missing})
    assert done.returncode != 0
    assert missing in done.stderr


def test_compose_images_are_pinned_pages_on_loopback_and_servers_checked(
    services: dict[str, Any],
) -> None:
    for name, service in services.items():
        assert re.search(r":\d+\.\d+", service["image"]), name
        assert all(is_loopback(port) for port in service.get("ports", [])), name
        assert not service.get("privileged"), name
        if name != "deploy":
            assert service["healthcheck"]["test"], name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["init"], name


def test_compose_each_service_holds_its_own_secrets_and_reaches_what_it_needs(
    services: dict[str, Any],
) -> None:
    def holds(name: str) -> set[str]:
        values = list(map(str, (services[name].get("environment") or {}).values()))
        return {secret for secret, value in SECRETS.items() if value in values}

    flows = {"PREFECT_AUTH", "MLFLOW_WORKER_PASSWORD", "S3_ACCESS_KEY", "S3_SECRET_KEY"}
    assert holds("worker-cpu") == holds("worker-gpu") == flows
    assert holds("deploy") == flows | {"MLFLOW_PASSWORD"}
    assert holds("postgres") == {"POSTGRES_PASSWORD"}
    assert holds("store") == set()
    assert holds("s3") == {"S3_ACCESS_KEY", "S3_SECRET_KEY"}
    assert "RAFT_JUDGES_API_KEY" not in services["deploy"]["environment"]
    reached = {name: set(service["networks"]) for name, service in services.items()}
    for name in ("worker-cpu", "worker-gpu", "deploy"):
        assert reached[name] == {"flows"}
    assert {name for name, nets in reached.items() if "databases" in nets} == {
        "postgres", "prefect", "mlflow",
    }  # fmt: skip
    assert {name for name, nets in reached.items() if "storage" in nets} == {"store", "s3"}


SECRET_NAME = re.compile(r"(?i)password|secret|auth|token|_key(_id)?$")
PUBLIC = {"MLFLOW_AUTH_CONFIG_PATH", "MLFLOW_AUTH_ADMIN_USERNAME"}


def test_compose_file_takes_every_secret_from_the_environment() -> None:
    found = 0
    for name, service in yaml.safe_load(COMPOSE.read_text())["services"].items():
        assert isinstance(service["environment"], dict), name
        for variable, value in service["environment"].items():
            assert "@" not in str(value).split("//")[-1].split("/")[0], variable
            if SECRET_NAME.search(variable) and variable not in PUBLIC:
                assert re.fullmatch(r"\$\{\w+:[?-][^}]*\}", value), f"{name}: {variable}"
                found += 1
    assert found > 10


def test_images_are_made_without_secrets() -> None:
    for line in (ROOT / "docker" / "Dockerfile").read_text().splitlines():
        if line.startswith(("ENV", "ARG", "    ")) and "=" in line:
            names = re.findall(r"(\w+)=", line)
            assert not [name for name in names if SECRET_NAME.search(name)], line
    uris = re.findall(r"\w+://[^\s]+", (ROOT / "docker" / "mlflow-auth.ini").read_text())
    assert uris
    assert not [uri for uri in uris if "@" in uri]


def test_images_are_multi_stage_pinned_and_never_root() -> None:
    lines = (ROOT / "docker" / "Dockerfile").read_text().splitlines()
    stages = {line.split(" AS ")[1]: number for number, line in enumerate(lines) if " AS " in line}
    ends = [*sorted(stages.values())[1:], len(lines)]
    for name in ("orchestrator", "worker-cpu", "worker-gpu"):
        end = next(end for end in ends if end > stages[name])
        users = [line for line in lines[stages[name] : end] if line.startswith("USER ")]
        assert users[-1:] == ["USER raft"], name
    assert not any(line.startswith("FROM") and "latest" in line for line in lines)


def test_compose_flows_find_what_those_of_make_up_find(services: dict[str, Any]) -> None:
    config = StackConfig(home=Path("/home"), flows=1, gpus=1)
    ours = config.worker_environment().items() - os.environ.items()
    worker = services["worker-cpu"]["environment"]
    of_the_image = {"PREFECT_HOME", "RAFT_HOME", "RAFT_ROOT", "PYTHONPATH"}
    addresses = {"PREFECT_API_URL", "MLFLOW_TRACKING_URI"}
    of_the_servers = {"PREFECT_SERVER_ANALYTICS_ENABLED", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION"}
    for name, value in ours:
        if name in of_the_servers:
            assert name in services["prefect"]["environment"] | services["mlflow"]["environment"]
        elif name in addresses:
            assert name in worker
        elif name not in of_the_image:
            assert worker[name] == value


def test_kubernetes_template_declares_what_it_uses() -> None:
    template = json.loads((ROOT / "docker" / "kubernetes" / "job-template.json").read_text())
    used = set(re.findall(r"{{ (\w+) }}", json.dumps(template["job_configuration"])))
    assert used == set(template["variables"]["properties"])
    pod = template["job_configuration"]["job_manifest"]["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"]


@dataclass
class Network:
    """The compose network on loopback, and the processes that stand for containers."""

    services: dict[str, Any]
    folder: Path
    endpoint: str
    database: Postgres
    ports: dict[str, int] = field(default_factory=lambda: {n: free_port() for n in OPEN_PORTS})
    running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def here(self, text: str) -> str:
        """A text of the compose file with this machine's addresses in place of the network's."""
        text = text.replace("http://s3:8333", self.endpoint).replace("0.0.0.0", "127.0.0.1")
        for host, port in OPEN_PORTS.items():
            for name in (host, "127.0.0.1", "localhost"):
                text = text.replace(f"{name}:{port}", f"127.0.0.1:{self.ports[host]}")
            text = text.replace(f"--port {port}", f"--port {self.ports[host]}")
        return text.replace("/opt/raft", str(ROOT))

    def command(self, name: str) -> list[str]:
        """As docker-compose 1 (a text) or 2 (a list) writes it."""
        given = self.services[name]["command"]
        return shlex.split(self.here(given if isinstance(given, str) else shlex.join(given)))

    def environment(self, name: str) -> dict[str, str]:
        given = {k: self.here(str(v)) for k, v in self.services[name]["environment"].items()}
        if "PGHOST" in given:
            given |= {"PGHOST": "127.0.0.1", "PGPORT": str(self.database.port)}
        home, ports = self.folder / name, {"PREFECT_WORKER_WEBSERVER_PORT": str(free_port())}
        image = {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "RAFT_ROOT": str(ROOT),
            "RAFT_HOME": str(home),
            "PREFECT_HOME": str(home / "prefect"),
            "HOME": os.environ["HOME"],
            "COLUMNS": "200",
        }
        return image | given | ports

    def start(self, name: str) -> subprocess.Popen[bytes]:
        with open(self.folder / f"{name}.log", "wb") as log:
            self.running[name] = subprocess.Popen(
                self.command(name),
                cwd=ROOT, env=self.environment(name), stdout=log, stderr=subprocess.STDOUT,
            )  # fmt: skip
        return self.running[name]

    def ask(self, host: str, path: str, login: str = "", body: Any = None) -> Any:
        request = Request(f"http://127.0.0.1:{self.ports[host]}{path}")
        request.add_header("Content-Type", "application/json")
        if login:
            encoded = base64.b64encode(login.encode()).decode()
            request.add_header("Authorization", f"Basic {encoded}")
        data = None if body is None else json.dumps(body).encode()
        with urlopen(request, data, timeout=60) as response:
            return json.loads(response.read() or b"null") if login else response.status

    def wait_for(self, host: str, path: str) -> None:
        deadline = time.monotonic() + 180
        while True:
            try:
                assert self.ask(host, path) == 200
                return
            except (URLError, ConnectionError):
                assert self.running[host].poll() is None, self.log(host)
                assert time.monotonic() < deadline, self.log(host)
                time.sleep(1)

    def log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text(errors="replace")[-4000:]


OPEN_PORTS = {"prefect": 4200, "mlflow": 5000}


@pytest.fixture(scope="module")
def network(
    services: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Network]:
    if program("initdb") is None or program("psql") is None:
        pytest.skip("needs PostgreSQL's server programs")
    folder, port = tmp_path_factory.mktemp("network"), free_port()
    with postgres(port) as database, s3_server() as endpoint:
        database.run(ROOT / "docker" / "postgres" / "databases.sql")
        found = Network(services, folder, endpoint, database)
        try:
            for name in OPEN_PORTS:
                found.start(name)
            found.wait_for("prefect", "/api/health")
            found.wait_for("mlflow", "/health")
            yield found
        finally:
            for process in reversed(found.running.values()):
                process.terminate()
            for process in found.running.values():
                try:
                    process.wait(30)
                except subprocess.TimeoutExpired:
                    process.kill()


@pytest.mark.parametrize(
    ("host", "path", "login"),
    [
        ("prefect", "/api/admin/version", SECRETS["PREFECT_AUTH"]),
        ("mlflow", "/api/2.0/mlflow/registered-models/search", ""),
    ],
)
def test_compose_servers_ask_for_a_password(
    network: Network, host: str, path: str, login: str
) -> None:
    with pytest.raises(HTTPError) as refused:
        network.ask(host, path)
    assert refused.value.code == 401
    login = login or f"admin:{SECRETS['MLFLOW_PASSWORD']}"
    assert network.ask(host, path, login) is not None
    with pytest.raises(HTTPError) as refused:
        network.ask(host, path, f"{login}x")
    assert refused.value.code == 401


def test_compose_worker_completes_a_deployment_through_postgres_and_s3(network: Network) -> None:
    deploy = network.start("deploy")
    assert deploy.wait(180) == 0, network.log("deploy")
    worker = network.start("worker-cpu")
    parameters = {
        "profile": str(small_profile(network.folder)), "domain": "law", "limit": 100,
        "overrides": ["distill.epochs=0.05"],
    }  # fmt: skip
    given = [f"-p={name}={json.dumps(value)}" for name, value in parameters.items()]
    done = subprocess.run(
        ["prefect", "deployment", "run", "raft/full", "--watch", *given],
        cwd=ROOT, env=network.environment("worker-cpu"), capture_output=True, text=True,
        timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr + network.log("worker-cpu")
    assert worker.poll() is None
    assert network.database.count("prefect", "flow_run") >= 1
    assert network.database.count("mlflow", "runs") >= 1
    assert network.database.count("mlflow_auth", "users") == 2
    user = f"raft:{SECRETS['MLFLOW_WORKER_PASSWORD']}"
    made = {"username": "another", "password": "long enough for a user"}
    with pytest.raises(HTTPError) as refused:  # the workers' user is no administrator
        network.ask("mlflow", "/api/2.0/mlflow/users/create", user, made)
    assert refused.value.code == 403

    import s3fs

    keys = {"key": SECRETS["S3_ACCESS_KEY"], "secret": SECRETS["S3_SECRET_KEY"]}
    kept = s3fs.S3FileSystem(endpoint_url=network.endpoint, **keys)
    assert kept.glob("raft/store/artifacts/report/*/record.json")
    assert kept.glob("raft/mlflow/**/report.md")
    logs = "".join(path.read_text(errors="replace") for path in network.folder.glob("*.log"))
    assert "Completed" in logs
    assert not [secret for secret in HIDDEN if secret in logs]
