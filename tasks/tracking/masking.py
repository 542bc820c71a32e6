"""Credentials in addresses: a tracking server's or an endpoint's URI may hold a password."""

from __future__ import annotations

import re

MASK = "***"
# `//user:password@`, where the password may hold what it should not, and `//token@`.
USERINFO = re.compile(r"(?<=://)(?:[^\s/@]*:[^\s@]*|[^\s/?#]+)@")


def masked(text: str) -> str:
    """`text` with the userinfo of every URI replaced by `***`."""
    return USERINFO.sub(f"{MASK}@", text)


def without_userinfo(uri: str) -> str:
    """The address for a link: whoever opens it logs in."""
    return USERINFO.sub("", uri)
