"""Decide when an endpoint is given up, and explain why.

| failure | effect | when |
| --- | --- | --- |
| 401, 404, a redirect | given up | at once |
| 403 (may be one row's) | given up | after 3 in a row |
| no connection | given up | after 3 in a row |
| timeout, 408, 409, 429, 5xx | given up | after 16 in a row |
| any other | costs its row | always |

With `max_failed_share` 1 only the first line holds.
"""

from __future__ import annotations

import re
from typing import Any

from raft_core.config.runtime import EndpointRuntime
from raft_core.config.secrets import masked
from raft_core.engines.base import OpenAIConfig

# 403 may be about one row: some gateways moderate prompts.
FORBIDDEN = 3
UNREACHED = 3
RETRIED_IN_VAIN = 16
TOO_LONG = re.compile(r"context[ _](length|size|window)|prompt is too long", re.IGNORECASE)
MODELS_NAMED, LONGEST_ID = 20, 200


def is_too_long(error: Exception) -> bool:
    """Return whether an error is about a prompt that does not fit: servers share words, no code."""
    refused = getattr(error, "status_code", None) in (400, 413, 422)
    return refused and TOO_LONG.search(str(error)) is not None


def patience(error: Exception, max_failed_share: float) -> int | None:
    """Return how many such errors in a row, with no answer between, give an endpoint up.

    None where an error may be about its row, or where all requests may fail.
    """
    from openai import APIConnectionError, APITimeoutError

    status = getattr(error, "status_code", None)
    if status in (401, 404) or is_redirect(status):
        return 1
    if max_failed_share == 1:
        return None
    if status == 403:
        return FORBIDDEN
    if isinstance(error, APITimeoutError) or status in (408, 409, 429) or (status or 0) >= 500:
        return RETRIED_IN_VAIN
    return UNREACHED if isinstance(error, APIConnectionError) else None


def is_redirect(status: int | None) -> bool:
    """Return whether a status asks to go to another address."""
    return status is not None and 300 <= status < 400


def explanation(
    error: Exception, said: str, config: OpenAIConfig, endpoint: EndpointRuntime, client: Any
) -> str:
    """Return what is wrong and where to mend it; `said` is the error without the key."""
    name, status = config.endpoint, getattr(error, "status_code", None)
    if status in (401, 403) and endpoint.api_key_env is None:
        return (
            f"endpoint '{name}' wants a key: name the environment variable that holds it in "
            f"runtime.endpoints.{name}.api_key_env ({said})"
        )
    if status in (401, 403):
        return (
            f"endpoint '{name}', model '{config.model}': the key in the environment variable "
            f"{endpoint.api_key_env} is refused ({said})"
        )
    if status == 404:
        return f"endpoint '{name}' {_unknown(config.model, client)} ({said})"
    if is_redirect(status):
        return (
            f"endpoint '{name}' sends on to another address: {_new_address(error)}. No row was "
            f"sent there; set runtime.endpoints.{name}.base_url, if you trust it"
        )
    return (
        f"endpoint '{name}', model '{config.model}': several requests in a row had no answer, each "
        f"after {endpoint.max_retries} retries, the last with {said}"
    )


def _new_address(error: Exception) -> str:
    """Return the address that a redirect names, masked."""
    named: str = getattr(error, "response").headers.get("Location", "")  # noqa: B009
    return masked(ascii(named[:200])) if named else "it names none"


def _unknown(model: str, client: Any) -> str:
    from openai import OpenAIError

    try:
        listed = client.with_options(max_retries=0).models.list().data
        served = [each.id[:LONGEST_ID] for each in listed if isinstance(each.id, str)]
    except (OpenAIError, ValueError, AttributeError, TypeError):
        served = []
    if not served:
        return "has no chat completions below its base_url, which should end in /v1"
    if model in served:
        return f"serves model '{model}', but not as a chat"
    more = ", ..." if len(served) > MODELS_NAMED else ""
    return f"has no model '{model}'; it serves: {', '.join(served[:MODELS_NAMED])}{more}"
