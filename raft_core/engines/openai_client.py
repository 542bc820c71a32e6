"""The HTTP client of an endpoint: its key, its retries, and bounds on what it may send.

It follows no redirect and takes no compressed answer.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from typing import Any

from raft_core.config.runtime import EndpointRuntime
from raft_core.engines.openai_deadline import begin, watch
from raft_core.errors import EngineError, InputError, first_line
from raft_core.execution.budget import Account

NO_KEY = "none"
# Bytes of one response. The longest answer with all its token ids is far below it.
LARGEST_RESPONSE = 32 * 2**20
# The library builds an object for each: a million take most of a minute, past any deadline.
MOST_PARTS = {b"{": 50_000, b"[": 50_000, b",": 400_000}


def endpoint_key(name: str, endpoint: EndpointRuntime) -> str:
    """Return the key that the environment holds, or `NO_KEY` where none is needed.

    Raises:
        InputError: the variable is not set, or what it holds cannot be sent.
    """
    if endpoint.api_key_env is None:
        return NO_KEY
    key = os.environ.get(endpoint.api_key_env)
    said = f"runtime.endpoints.{name}: the environment variable {endpoint.api_key_env}"
    if not key:
        raise InputError(f"{said} is not set")
    if not key.isascii() or not key.isprintable() or " " in key:
        raise InputError(
            f"{said} holds a blank, a line end or another sign that no key has; set it again"
        )
    return key


def open_client(name: str, endpoint: EndpointRuntime, account: Account | None = None) -> Any:
    """Open an endpoint's client; it asks the account before every completion request and retry.

    Raises:
        InputError: there is no key, or the environment's proxies cannot be used.
    """
    from openai import DefaultHttpxClient, OpenAI

    api_key = endpoint_key(name, endpoint)

    def admit(request: Any) -> None:
        if account is not None and request.method == "POST":
            account.admit()
        begin(endpoint.timeout_s)

    def bound(response: Any) -> None:
        require_plain(name, response)
        response.stream = bounded(response.stream)

    try:
        http = DefaultHttpxClient(
            event_hooks={"request": [admit], "response": [bound]},
            # The size of an uncompressed body can be bounded.
            headers={"Accept-Encoding": "identity"},
            # A redirect would send the rows to another host, whose page could pass for an answer.
            follow_redirects=False,
        )
        watch(http)
    except Exception as error:  # raised by whatever reads the environment
        raise InputError(
            f"runtime.endpoints.{name}: no HTTP client ({type(error).__name__}: "
            f"{first_line(error)}); look at the variables HTTP_PROXY, HTTPS_PROXY, ALL_PROXY"
        ) from None
    return OpenAI(
        base_url=endpoint.base_url,
        api_key=api_key,
        timeout=endpoint.timeout_s,
        max_retries=endpoint.max_retries,
        http_client=http,
    )


def require_plain(name: str, response: Any) -> None:
    """Raise where a body is compressed although that was not allowed.

    The bound on what arrives would not bound what it unpacks to.

    Raises:
        EngineError: the endpoint compresses its answers, those to other rows too.
    """
    encoding = response.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding not in ("", "identity"):
        raise EngineError(
            f"endpoint '{name}' compresses its answers ({encoding[:40]!r}) although it is asked "
            "not to; turn that off in the server, or in the proxy before it"
        )


def bounded(stream: Any) -> Any:
    """Wrap a response's body so that it raises an error where it is too long."""
    import httpx2
    from openai import OpenAIError

    class Bounded(httpx2.SyncByteStream):
        def __iter__(self) -> Iterator[bytes]:
            size, parts = 0, Counter[bytes]()
            for part in stream:
                size += len(part)
                if size > LARGEST_RESPONSE:
                    raise OpenAIError(f"the response is longer than {LARGEST_RESPONSE:,} bytes")
                for sign, most in MOST_PARTS.items():
                    parts[sign] += part.count(sign)
                    if parts[sign] > most:
                        raise OpenAIError(f"the response holds over {most:,} '{sign.decode()}'")
                yield part

        def close(self) -> None:
            stream.close()

    return Bounded()
