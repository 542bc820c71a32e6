"""What must not stand in settings, because they are logged: passwords, keys and tokens."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any
from urllib.parse import parse_qsl, urlsplit

from pydantic import AfterValidator

MASK = "***"
WORDS = re.compile(r"[A-Z]?[a-z0-9]+|[A-Z]+")
SECRET = set(
    "apikey key password passwd passphrase pwd secret secrets authorization auth credential "
    "credentials bearer signature sig sas".split()
)
# Of what text is made of, and no credential.
NO_CREDENTIALS = {"bos", "eos", "pad", "unk", "stop", "end", "think", "sep", "mask", "image"}
BEARER = re.compile(r"\s*(bearer|basic)\s+\S|\s*sk-\w", re.IGNORECASE)
USERINFO = re.compile(r"//(?:[^/@\s]*|[^/@\s]*:[^@\s]*)@")


def is_secret_name(name: str) -> bool:
    """Whether a field of this name holds a credential: `x-api-key`, `accessToken`, `sig`."""
    words = [word.lower() for word in WORDS.findall(name)]
    if not words:
        return False
    if words[-1] == "token":
        return len(words) < 2 or words[-2] not in NO_CREDENTIALS
    return bool(SECRET & {*words, "".join(words)})


def secret_in(value: Any) -> str | None:
    """The name of a field of nested settings that holds a credential, if any does.

    What YAML's names repeat, and be it without end, is looked at once.
    """
    seen: set[int] = set()
    waiting: list[tuple[str, Any]] = [("", value)]
    while waiting:
        name, item = waiting.pop()
        if isinstance(item, str) and (BEARER.match(item) or has_secret(item)):
            return name
        if not isinstance(item, Mapping | list | tuple) or id(item) in seen:
            continue
        seen.add(id(item))
        for key, inner in item.items() if isinstance(item, Mapping) else enumerate(item):
            below = f"{name}.{key}" if name else str(key)
            if is_secret_name(str(key)) and isinstance(inner, str) and inner:
                return below
            waiting.append((below, inner))
    return None


def has_secret(url: str) -> bool:
    """Whether an address holds a user, a password or a key."""
    if "://" not in url:
        return False
    if USERINFO.search(url.partition("?")[0]):
        return True
    _, _, query = url.partition("?")
    pairs = parse_qsl(query.replace("#", "&") or url.partition("#")[2], keep_blank_values=True)
    return any(is_secret_name(name) for name, _ in pairs)


def without_password(url: str) -> str:
    """The address itself.

    Raises:
        ValueError: it holds a credential.
    """
    if has_secret(url):
        raise ValueError("holds a user, password or key; give those in the environment")
    return url


def plain_endpoint(url: str) -> str:
    """The address of an endpoint: requests append their own path to it.

    Raises:
        ValueError: it is none, or says more than scheme, host, port and path.
    """
    without_password(url)
    try:
        parts = urlsplit(url)
        port_is_fine = parts.port is None or parts.port > 0
    except ValueError:
        parts, port_is_fine = None, False
    named = parts is not None and parts.scheme in ("http", "https") and bool(parts.hostname)
    if not named or not port_is_fine or re.search(r"[\s\0]", url):
        raise ValueError("is no address such as http://127.0.0.1:8000/v1")
    if "?" in url or "#" in url or "@" in url:
        raise ValueError(
            "must be scheme, host, port and path alone; a key belongs into the environment "
            "(api_key_env)"
        )
    return url


PlainUrl = Annotated[str, AfterValidator(without_password)]
EndpointUrl = Annotated[str, AfterValidator(plain_endpoint)]


def masked(text: str) -> str:
    """Without what stands in addresses and must not be logged."""
    text = USERINFO.sub(f"//{MASK}@", text)

    def hide(found: re.Match[str]) -> str:
        return f"{found[1]}{MASK}" if is_secret_name(found[1][1:-1]) else found[0]

    return re.sub(r"([?&#][\w.-]+=)[^&#\s'\"]+", hide, text)
