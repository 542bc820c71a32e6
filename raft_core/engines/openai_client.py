"""The HTTP client of an endpoint: its key, its retries, and bounds on what it may send."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from typing import Any

from raft_core.errors import InputError, first_line
from raft_core.runtime import EndpointRuntime
from raft_core.spending import Account

NO_KEY = "none"
# Bytes of one response. The longest answer with all its token ids is far below it.
LARGEST_RESPONSE = 32 * 2**20
STARTED = "raft.started"


def endpoint_key(name: str, endpoint: EndpointRuntime) -> str:
    """The key that the environment holds, or what stands for none.

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
    """The client asks the account before every request for a completion, a retry included.

    Raises:
        InputError: no key, or the environment's proxies cannot be used.
    """
    from openai import DefaultHttpxClient, OpenAI

    api_key = endpoint_key(name, endpoint)

    def admit(request: Any) -> None:
        request.extensions[STARTED] = time.monotonic()
        if account is not None and request.method == "POST":
            account.admit()

    def bound(response: Any) -> None:
        started = response.request.extensions.get(STARTED, time.monotonic())
        response.stream = bounded(response.stream, started + endpoint.timeout_s)

    try:
        # What is sent as it is has a size that can be bounded.
        http = DefaultHttpxClient(
            event_hooks={"request": [admit], "response": [bound]},
            headers={"Accept-Encoding": "identity"},
        )
    except Exception as error:  # of whatever reads the environment
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


def bounded(stream: Any, deadline: float) -> Any:
    """The response's body, which ends in an error where it is too long or comes too slowly.

    The client's own timeout is that of every single read.
    """
    import httpx2
    from openai import OpenAIError

    class Bounded(httpx2.SyncByteStream):
        def __iter__(self) -> Iterator[bytes]:
            size = 0
            for part in stream:
                size += len(part)
                if size > LARGEST_RESPONSE:
                    raise OpenAIError(f"the response is longer than {LARGEST_RESPONSE:,} bytes")
                if time.monotonic() > deadline:
                    raise httpx2.ReadTimeout("the response came too slowly")
                yield part

        def close(self) -> None:
            stream.close()

    return Bounded()
