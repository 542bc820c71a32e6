"""HTTP servers on loopback that answer as a test says: chat endpoints that misbehave, proxies."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Reply:
    """A status and a body; `cut` closes the connection in the middle of the answer.

    `raw` is sent as it stands in the body's place; `drip` sends a byte of the head at a time, with
    so many seconds between.
    """

    status: int = 200
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)
    cut: bool = False
    raw: bytes | None = None
    drip: float = 0.0


@dataclass(frozen=True)
class Asked:
    """A request; `body` is None for a GET."""

    path: str
    headers: Mapping[str, str]
    body: dict[str, Any] | None

    @property
    def prompt(self) -> str:
        assert self.body is not None
        return str(self.body["messages"][0]["content"])


def said(content: Any, *, tokens: int | None = None, **message: Any) -> Reply:
    """A chat completion of this content, of which `usage` counts so many tokens."""
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": content, **message},
        "finish_reason": "stop",
    }
    body = {"id": "1", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]}
    if tokens is not None:
        usage = {"prompt_tokens": tokens - 1, "completion_tokens": 1, "total_tokens": tokens}
        body["usage"] = usage
    return Reply(body=body)


def refused(status: int, message: str, **headers: str) -> Reply:
    return Reply(status, {"error": {"message": message}}, headers)


@contextmanager
def endpoint(answer: Callable[[Asked], Reply]) -> Iterator[str]:
    """The base URL of a server that answers so, each request in a thread of its own."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True  # a body would wait 40 ms for its head's receipt

        def do_GET(self) -> None:
            self._reply(answer(Asked(self.path, self.headers, None)))

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            self._reply(answer(Asked(self.path, self.headers, body)))

        def _reply(self, reply: Reply) -> None:
            data = json.dumps(reply.body).encode() if reply.raw is None else reply.raw
            if reply.drip:
                self._drip(reply.drip)
                return
            self.send_response(reply.status)
            for name, value in reply.headers.items():
                self.send_header(name.replace("_", "-"), value)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.close_connection = reply.cut
            self.wfile.write(data[:1] if reply.cut else data)

        def _drip(self, pause: float) -> None:
            self.close_connection = True
            with suppress(OSError):  # whoever asked waits no longer
                for byte in b"HTTP/1.1 200 OK\r\nX-Long: " + b"a" * 2000:
                    self.wfile.write(bytes([byte]))
                    time.sleep(pause)

        def log_message(self, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1"
    finally:
        server.shutdown()
        server.server_close()
