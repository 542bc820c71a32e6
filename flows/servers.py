"""Whether a server answers, asked before a library waits for it or ends in a traceback."""

from __future__ import annotations

from http.client import HTTPException
from ssl import SSLError
from urllib.error import HTTPError
from urllib.request import HTTPRedirectHandler, Request, build_opener, urlopen

from raft_core.errors import InputError
from tasks.serving.access import basic
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


class Unredirected(HTTPRedirectHandler):
    """A redirect is the answer: whoever is behind it is not whom the login is for."""

    def redirect_request(self, *_: object) -> None:
        return None


def require_login(url: str, login: str, named: str) -> None:
    """Raise if Prefect's server at an address turns this login away.

    What else may be wrong with it is told by the first call that it refuses.

    Raises:
        InputError: the server asks for another login, or for one.
    """
    request = Request(f"{without_userinfo(url)}/version")
    if login:
        request.add_header("Authorization", basic(login))
    try:
        with build_opener(Unredirected).open(request, timeout=20):
            return
    except HTTPError as error:
        if error.code != 401:
            return
    except (OSError, ValueError, HTTPException):
        return
    raise InputError(
        f"{named}: the Prefect server at {masked(url)} asks for "
        f"{'another' if login else 'a'} login; set PREFECT_API_AUTH_STRING (`make up` keeps its "
        "own in the file server/login of the home)"
    )
