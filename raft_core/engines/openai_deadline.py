"""One deadline for a request to an endpoint: connecting, sending, headers and body together.

The HTTP client's own timeout is that of every single read, so a server that sends a byte now and
then is waited for without end. httpx2 2.16 has no setting for it: its transports' pools are given
connections here that know the deadline of the thread's request (`_pool` and `_network_backend` are
their private names).
"""

from __future__ import annotations

import threading
import time
from typing import Any

SENT_AT_ONCE = 2**16
_REQUEST = threading.local()


def begin(seconds: float) -> None:
    """Start the deadline of the request that this thread is about to send."""
    _REQUEST.deadline = time.monotonic() + seconds


def left(timeout: float | None) -> float | None:
    """Return what a wait may take, at most `timeout`.

    Raises:
        httpcore2.ReadTimeout: the request's time is used up; httpx2 and openai know it as theirs.
    """
    deadline = getattr(_REQUEST, "deadline", None)
    if deadline is None:
        return timeout
    rest = deadline - time.monotonic()
    if rest <= 0:
        import httpcore2

        raise httpcore2.ReadTimeout("the whole request took longer than timeout_s")
    return rest if timeout is None else min(timeout, rest)


def watch(client: Any) -> None:
    """Have all connections that a client opens from now on keep to the deadlines."""
    for transport in (client._transport, *client._mounts.values()):
        if transport is not None:
            transport._pool._network_backend = Backend(transport._pool._network_backend)


class Backend:
    """A network backend of httpcore2 whose connections keep to the deadline of their request."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def connect_tcp(
        self, host: str, port: int, timeout: float | None = None, *args: Any, **kwargs: Any
    ) -> Stream:
        """Connect within the deadline."""
        return Stream(self._inner.connect_tcp(host, port, left(timeout), *args, **kwargs))

    def connect_unix_socket(
        self, path: str, timeout: float | None = None, *args: Any, **kwargs: Any
    ) -> Stream:
        """Connect within the deadline."""
        return Stream(self._inner.connect_unix_socket(path, left(timeout), *args, **kwargs))

    def sleep(self, seconds: float) -> None:
        """Sleep, as the inner backend does."""
        self._inner.sleep(seconds)


class Stream:
    """A connection; it is read by the thread whose request it carries."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """Read within the deadline."""
        part: bytes = self._inner.read(max_bytes, left(timeout))
        return part

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Write within the deadline."""
        # The timeout applies to every single send, so a long buffer is sent in parts.
        for start in range(0, max(len(buffer), 1), SENT_AT_ONCE):
            self._inner.write(buffer[start : start + SENT_AT_ONCE], left(timeout))

    def start_tls(
        self, ssl_context: Any, server_hostname: str | None = None, timeout: float | None = None
    ) -> Stream:
        """Negotiate TLS within the deadline."""
        return Stream(self._inner.start_tls(ssl_context, server_hostname, left(timeout)))

    def close(self) -> None:
        """Close the connection."""
        self._inner.close()

    def get_extra_info(self, info: str) -> Any:
        """Return what the inner stream knows."""
        return self._inner.get_extra_info(info)
