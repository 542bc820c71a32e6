"""Who is let in to a server of this machine."""

from __future__ import annotations

import asyncio
import os
import stat
from pathlib import Path
from typing import Any
from urllib.request import proxy_bypass

import pytest

from tasks.serving.access import LocalAccess, basic, keep_direct
from tasks.serving.inherited import for_servers
from tasks.serving.login import made_login, read_login

LOGIN = "raft:secret"
HOST = ("host", "127.0.0.1:4200")


def asked(
    *headers: tuple[str, str],
    login: str | None = None,
    kind: str = "http",
    path: str = "/api/x",
    method: str = "POST",
) -> str:
    """Return `passed`, or how the request was turned away."""
    sent: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        sent.append({"type": "passed"})

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    encoded = [(name.encode(), value.encode()) for name, value in headers]
    scope = {"type": kind, "path": path, "method": method, "headers": encoded}
    asyncio.run(LocalAccess(app, login=login)(scope, receive, send))  # type: ignore[arg-type]
    first = sent[0]
    return str(first.get("status", first["type"]))


def test_loopback_is_asked_past_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.setenv("no_proxy", "of.the.user")
    monkeypatch.setenv("NO_PROXY", "")
    keep_direct()
    assert os.environ["no_proxy"] == os.environ["NO_PROXY"] == "of.the.user,127.0.0.1,localhost"
    assert proxy_bypass("127.0.0.1:4200")
    assert proxy_bypass("of.the.user")
    assert not proxy_bypass("example.org")


@pytest.mark.parametrize(
    "headers",
    [
        [HOST],
        [("host", "localhost:9999")],
        [("host", "localhost")],
        [HOST, ("origin", "http://127.0.0.1:4200")],
        [("host", "localhost"), ("origin", "https://localhost")],
    ],
)
def test_access_own_name_and_page_pass(headers: list[tuple[str, str]]) -> None:
    assert asked(*headers) == "passed"


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [("host", "evil.example:4200")],
        [("host", "127.0.0.1.evil.example")],
        [("host", "evil.example@127.0.0.1:4200")],
        [("host", "127.0.0.1@evil.example")],
        [("host", "[::1")],
        [HOST, ("host", "evil.example")],
        [HOST, ("origin", "http://evil.example")],
        [HOST, ("origin", "null")],
        [HOST, ("origin", "http://127.0.0.1:4201")],  # a page of another user of this machine
        [HOST, ("origin", "http://localhost:4200")],
        [HOST, ("origin", "http://127.0.0.1:4200"), ("origin", "http://evil.example")],
    ],
)
def test_access_other_name_or_page_is_forbidden_with_the_login_too(
    headers: list[tuple[str, str]],
) -> None:
    assert asked(*headers, ("authorization", basic(LOGIN)), login=LOGIN) == "403"
    assert asked(*headers, kind="websocket") == "websocket.close"


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [("authorization", basic("raft:wrong"))],
        [("authorization", "Bearer secret")],
        [("authorization", basic(LOGIN)), ("authorization", basic(LOGIN))],
        [("authorization", "Basic \xe9")],
    ],
)
def test_access_without_the_login_is_unauthorized(headers: list[tuple[str, str]]) -> None:
    assert asked(HOST, *headers, login=LOGIN) == "401"


def test_access_with_the_login_passes_and_health_needs_none() -> None:
    assert asked(HOST, ("authorization", basic(LOGIN)), login=LOGIN) == "passed"
    assert asked(HOST, login=LOGIN, path="/health", method="GET") == "passed"
    assert asked(HOST, login=LOGIN, path="/health") == "401"
    assert asked(HOST, login=LOGIN, path="/health/../api", method="GET") == "401"


def test_login_is_made_once_and_readable_by_its_owner_alone(tmp_path: Path) -> None:
    file = tmp_path / "server" / "login"
    old = os.umask(0)
    try:
        login = made_login(file)
    finally:
        os.umask(old)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert made_login(file) == login == read_login(file)
    assert login.startswith("raft:")
    assert len(login) > 40
    assert made_login(tmp_path / "other") != login


def test_login_that_others_could_read_is_closed_again(tmp_path: Path) -> None:
    file = tmp_path / "login"
    file.write_text("raft:known\n")
    file.chmod(0o644)
    assert made_login(file) == "raft:known"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_server_inherits_no_key_and_no_login_of_the_shell() -> None:
    keys = {
        "RAFT_JUDGES_API_KEY": "k", "OPENAI_API_KEY": "k", "HF_TOKEN": "k", "DATABASE_URL": "k",
        "AWS_SECRET_ACCESS_KEY": "k", "PREFECT_API_AUTH_STRING": "k", "PREFECT_API_KEY": "k",
        "MLFLOW_WORKER_PASSWORD": "k", "PREFECT_INTEGRATIONS_X_KEY": "k", "GITLAB_TOKEN": "k",
        "MLFLOW_TRACKING_PASSWORD": "k", "MLFLOW_TRACKING_TOKEN": "k", "GITHUB_TOKEN": "k",
    }  # fmt: skip
    kept = {"PATH": "/bin", "HOME": "/h", "PREFECT_HOME": "/p", "LC_ALL": "C", "PGPASSFILE": "/f"}
    assert for_servers(keys | kept) == kept
