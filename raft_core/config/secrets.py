"""Find and mask passwords, keys and tokens: settings must hold none, since they are logged."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any
from urllib.parse import unquote, urlsplit

from pydantic import AfterValidator

from raft_core.errors import printable

MASK = "***"
# Name of a parameter in an address, after `?`, `&`, `#` or `;`.
PARAMETER = re.compile(r"[?&#;]([\w.%-]+)=")
WORDS = re.compile(r"[A-Z]?[a-z0-9]+|[A-Z]+")
SECRET = set(
    "apikey apikeys password passwords passwd passphrase pwd secret secrets authorization auth "
    "credential credentials bearer signature sig sas".split()
)
# Words before `key` or `token` that make it harmless.
HARMLESS = set(
    "bos eos pad unk stop end start think sep cls mask image special sort cache max min primary "
    "foreign cluster partition group join".split()
)
OF_CREDENTIALS = {"api", "access", "auth", "hf", "secret"}  # the only words before `keys`, `tokens`
BEARER = re.compile(
    r"\b(?:bearer|basic)\s+(?=\S*[\d=])[\w.~+/=-]{6,}\s*$"
    r"|(?<![\w-])sk-(?=[\w-]{0,80}\d)(?=(?-i:[\w-]{0,80}[A-Z]))[\w-]{20,}",
    re.IGNORECASE,
)
# Keys in the forms of their issuers.
TOKEN = re.compile(
    r"(?<![A-Za-z0-9])(?:"
    r"hf_(?=[a-z0-9]{0,60}[A-Z])[A-Za-z0-9]{16,}"
    r"|sk-[0-9a-f]{32,}|gsk_(?=[a-z]{0,60}[A-Z0-9])[A-Za-z0-9]{20,}|sk_live_[A-Za-z0-9]{16,}"
    r"|gh[opsur]_[A-Za-z0-9]{20,}|github_pat_\w{20,}|glpat-[\w-]{16,}"
    r"|A(?:KIA|SIA)(?=[A-Z]{0,15}\d)[A-Z0-9]{12,}(?![a-z])|AKIA[A-Z]{16}(?![A-Za-z0-9])"
    r"|eyJ[\w-]{8,2048}\.[\w-]{8,8192}\.[\w-]*"
    r"|xox[abprs]-(?=[\w-]{0,80}\d)[\w-]{10,}|AIza[\w-]{30,}|npm_[A-Za-z0-9]{30,})"
    r"|(?i:\bbearer\s+)(?=\S{0,60}\d)[\w.~+/=-]{16,}"
    r"|-----BEGIN [A-Z ]{0,20}PRIVATE KEY-----[A-Za-z0-9+/=\s]*"
)
# A user alone, or a user and a password, which may contain `/`; a port and a path do not match.
# Repeats are bounded, so that matching is never slow.
USERINFO = re.compile(r"//(?:[^/?@\s]{0,2048}|[^/?@\s]{0,2048}:(?!\d+[/?])[^@\s]{0,2048})@")


def is_secret_name(name: str) -> bool:
    """Return whether a field of this name holds a credential: `x-api-key`, `accessToken`, `sig`."""
    words = [word.lower() for word in WORDS.findall(name)]
    if SECRET & {*words, "".join(words)}:
        return True
    before, last = ["", *words][-2:] if words else ("", "")
    if last in ("keys", "tokens"):
        return before in OF_CREDENTIALS
    return last in ("key", "token") and before not in HARMLESS


def secret_in(value: Any) -> str | None:
    """Return the name of a field of nested settings that holds a credential, if any does."""
    for name, last, text in _texts(value):
        if text and (is_secret_name(last) or has_token(text) or has_secret(text)):
            return name
    return None


def address_with_secret(value: Any) -> str | None:
    """Return the name of a field whose address holds a credential, if any does."""
    found = (name for name, _, text in _texts(value) if has_secret(text) or has_token(text))
    return next(found, None)


def _texts(value: Any) -> Iterator[tuple[str, str, str]]:
    """Yield (name of the field, its last part, text) of all texts in nested settings.

    What YAML aliases repeat, even without end, is visited once.
    """
    seen: set[int] = set()
    waiting: list[tuple[str, str, Any]] = [("", "", value)]
    while waiting:
        name, last, item = waiting.pop()
        if isinstance(item, str):
            yield name, last, item
        if isinstance(item, Mapping | list | tuple) and id(item) not in seen:
            seen.add(id(item))
            for key, inner in item.items() if isinstance(item, Mapping) else enumerate(item):
                own = str(key) if isinstance(item, Mapping) else last
                waiting.append((f"{name}.{key}" if name else str(key), own, inner))


def has_token(text: str) -> bool:
    """Return whether a text holds a key of a form that nothing else has."""
    return BEARER.search(text) is not None or TOKEN.search(text) is not None


def has_secret(url: str) -> bool:
    """Return whether an address holds a user, a password or a key."""
    if "://" not in url:
        return False
    if USERINFO.search(url) or has_token(url):
        return True
    return any(is_secret_name(unquote(name)) for name in PARAMETER.findall(url))


def without_password(url: str) -> str:
    """Return the address itself.

    Raises:
        ValueError: it holds a credential.
    """
    if has_secret(url):
        raise ValueError("holds a user, password or key; give those in the environment")
    return url


def plain_endpoint(url: str) -> str:
    """Return the address of an endpoint, to which requests append their own path.

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
    if url.rstrip("/").endswith("/completions"):
        raise ValueError("must end before /chat/completions, mostly in /v1")
    if "?" in url or "#" in url or "@" in url:
        raise ValueError(
            "must be scheme, host, port and path alone; a key belongs into the environment "
            "(api_key_env)"
        )
    return url


PlainUrl = Annotated[str, AfterValidator(without_password)]
EndpointUrl = Annotated[str, AfterValidator(plain_endpoint)]


def masked(text: str) -> str:
    """Mask keys and passwords in a text, and remove what a terminal would obey.

    They are known by their form or by their place in an address.
    """
    text = USERINFO.sub(f"//{MASK}@", text)

    def hide(found: re.Match[str]) -> str:
        return f"{found[1]}{MASK}" if is_secret_name(unquote(found[1][1:-1])) else found[0]

    text = TOKEN.sub(MASK, BEARER.sub(MASK, text))
    return printable(re.sub(r"([?&#;][\w.%-]+=)[^&#;\s'\"]+", hide, text))
