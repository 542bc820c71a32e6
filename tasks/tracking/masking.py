"""What a tracking server's address may show."""

from __future__ import annotations

import re

from raft_core.config.secrets import masked

# `//user:password@`, where the password may hold what it should not, and `//token@`.
USERINFO = re.compile(r"(?<=://)(?:[^\s/@]*:[^\s@]*|[^\s/?#]+)@")

__all__ = ["masked", "without_userinfo"]


def without_userinfo(uri: str) -> str:
    """The address for a link: whoever opens it logs in."""
    return USERINFO.sub("", uri)
