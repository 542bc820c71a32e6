"""Whether a server answers, asked before a library waits for it or ends in a traceback."""

from __future__ import annotations

from http.client import HTTPException
from ssl import SSLError
from urllib.error import HTTPError
from urllib.request import urlopen

from raft_core.errors import InputError
from tasks.tracking.masking import masked, without_userinfo


def require_answering(url: str, named: str, remedy: str, timeout: float = 20) -> None:
    """`named` says whose address it is and where it stands.

    One that refuses to tell strangers, or whose certificate the library may trust, is there.

    Raises:
        InputError: nobody answers; it holds no password.
    """
    try:
        with urlopen(f"{without_userinfo(url)}/health", timeout=timeout):
            return
    except HTTPError:
        return
    except (OSError, ValueError, HTTPException) as error:
        if isinstance(getattr(error, "reason", error), SSLError):
            return
        raise InputError(
            f"{named} at {masked(url)} does not answer ({masked(str(error))}); {remedy}"
        ) from None
