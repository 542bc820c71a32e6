"""Which Prefect API a flow's runs are told to: a configured server, or one for this run alone."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path

from flows.servers import require_answering, require_login
from raft_core.config.base import made_folder
from raft_core.config.runtime import RuntimeConfig
from raft_core.store.private_files import keep_private
from tasks.serving.access import keep_direct
from tasks.serving.login import new_login
from tasks.serving.prefect_server import client_settings
from tasks.temporary_api import TemporaryApi

HOME = "runtime.home (or RAFT_HOME)"
_STARTED: list[TemporaryApi] = []


def choose_api(runtime: RuntimeConfig) -> None:
    """Prepare the environment of Prefect, which is not imported yet.

    Where no server is configured, one starts for this process.

    Raises:
        InputError: `make up` was here, and its server does not answer; or there can be no home.
    """
    keep_private(runtime.home_folder)
    keep_direct()
    require_answer(Path("prefect.toml"))
    home = made_folder(runtime.home_folder, HOME)
    profiles = Path(os.environ.get("PREFECT_HOME", "~/.prefect")).expanduser() / "profiles.toml"
    configured = (
        "PREFECT_API_URL" in os.environ
        or Path("prefect.toml").is_file()  # `make up` writes it
        or (profiles.is_file() and "PREFECT_API_URL" in profiles.read_text())
    )
    # A failed stage is told once, by exit_on_error, not once more by every task that waits for it.
    defaults = {"DO_NOT_TRACK": "1", "PREFECT_LOGGING_LEVEL": "CRITICAL"}
    if not configured:
        made_folder(home / "prefect", HOME)
        defaults |= {
            "PREFECT_HOME": str(home / "prefect"),
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "PREFECT_SERVER_LOGGING_LEVEL": "CRITICAL",
        }
    for name, value in defaults.items():
        os.environ.setdefault(name, value)
    if not configured:
        login = new_login()
        os.environ |= client_settings(login)
        _STARTED.append(TemporaryApi(Path(os.environ["PREFECT_HOME"]), login))
        os.environ["PREFECT_API_URL"] = _STARTED[-1].url


def wait_for_api() -> None:
    """Return once the API answers that was started for this process, if one was.

    Raises:
        StageError: it does not start.
    """
    for api in _STARTED:
        api.require_answer()


def require_answer(client_file: Path) -> None:
    """The server that `make up` has noted must answer; Prefect itself would end in a traceback.

    Raises:
        InputError: it does not.
    """
    given = os.environ.get("PREFECT_API_URL")
    named, remedy = "PREFECT_API_URL", "mend it, or unset it to run with a server of the flow's own"
    noted: dict[str, str] = {}
    if client_file.is_file():
        noted = tomllib.loads(client_file.read_text()).get("api", {})
    if not given:
        if not client_file.is_file():
            return
        named, remedy = str(client_file), "`make up` starts it, `make down` removes the file"
    url = given or noted.get("url", "")
    require_answering(url, f"{named} names a Prefect server", remedy)
    # Prefect would send the login of `make up` to another server.
    if noted.get("auth_string") and url.rstrip("/") != noted.get("url", "").rstrip("/"):
        os.environ.setdefault("PREFECT_API_AUTH_STRING", "")
    login = os.environ.get("PREFECT_API_AUTH_STRING", noted.get("auth_string", ""))
    if not os.environ.get("PREFECT_API_KEY"):
        require_login(url, login, named)
