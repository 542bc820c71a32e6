"""Admit to a server of this machine only its own page, by its own name, with its login.

A web page that is open in a browser here can reach loopback too. Neither Prefect nor MLflow turns
all such requests away: Prefect answers to any Host, MLflow takes every port of this machine for its
own page and asks for no login. So both run behind this middleware.
"""

from __future__ import annotations

import base64
import hmac
import os
import re
from collections.abc import Collection
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

LOCAL_NAMES = ("127.0.0.1", "localhost")
HOST = re.compile(r"[A-Za-z0-9.-]+(:[0-9]+)?")
HEALTH_PATH = "/health"
UNAUTHORIZED, FORBIDDEN = 401, 403
REASONS = {UNAUTHORIZED: "This server asks for a login.", FORBIDDEN: "Not this server's own page."}


def keep_direct() -> None:
    """Have this process and its children ask servers of this machine past any proxy."""
    known = [os.environ.get(name, "") for name in ("no_proxy", "NO_PROXY")]
    hosts = [host.strip() for each in known for host in each.split(",") if host.strip()]
    os.environ["no_proxy"] = os.environ["NO_PROXY"] = ",".join(
        dict.fromkeys([*hosts, *LOCAL_NAMES])
    )


class LocalAccess:
    """Turn away what comes by another name, from another page, or without the login.

    Args:
        app: the ASGI application behind it.
        names: host names under which the server is known; any port, since tunnels change it.
        login: `user:password` of HTTP's basic authentication; None leaves it to the application.
    """

    def __init__(
        self, app: ASGIApp, names: Collection[str] = LOCAL_NAMES, login: str | None = None
    ) -> None:
        self._app, self._names = app, frozenset(names)
        self._expected = None if login is None else basic(login).encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer it with its refusal."""
        status = self._refusal(scope) if scope["type"] in ("http", "websocket") else None
        if status is None:
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008, "reason": REASONS[status]})
        else:
            from starlette.responses import PlainTextResponse

            asks = {"WWW-Authenticate": 'Basic realm="raft"'} if status == UNAUTHORIZED else {}
            await PlainTextResponse(REASONS[status], status, asks)(scope, receive, send)

    def _refusal(self, scope: Scope) -> int | None:
        """Return the status that turns the request away, or None."""
        host = self._only(scope, b"host")
        if host_name(host) not in self._names:
            return FORBIDDEN
        own = {f"http://{host}", f"https://{host}"}
        if any(origin not in own for origin in self._values(scope, b"origin")):
            return FORBIDDEN
        if self._expected is None or self._is_health(scope):
            return None
        given = self._only(scope, b"authorization").encode()
        return None if hmac.compare_digest(given, self._expected) else UNAUTHORIZED

    def _only(self, scope: Scope, name: bytes) -> str:
        """Return a header's value; empty where there is none, or more than one."""
        values = self._values(scope, name)
        return values[0] if len(values) == 1 else ""

    @staticmethod
    def _values(scope: Any, name: bytes) -> list[str]:
        return [value.decode("latin-1") for key, value in scope["headers"] if key.lower() == name]

    @staticmethod
    def _is_health(scope: Scope) -> bool:
        return bool(scope.get("method") == "GET" and scope["path"] == HEALTH_PATH)


def host_name(host: str) -> str | None:
    """Return the name in a Host header, without its port; None where it cannot be read."""
    if not HOST.fullmatch(host):
        return None
    return host.rpartition(":")[0] or host


def basic(login: str) -> str:
    """Return the Authorization header of `user:password`."""
    return f"Basic {base64.b64encode(login.encode()).decode()}"
