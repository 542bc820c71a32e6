"""Choose what a server's process inherits from the shell that starts it: nobody's keys."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

from raft_core.config.secrets import is_secret_name

# Places of programs, libraries and certificates, locale, numbers of threads, and the settings of
# the two servers themselves.
INHERITED = re.compile(
    r"PATH|HOME|USER|LOGNAME|SHELL|TERM|COLUMNS|LANG|LC_\w+|TZ|TMPDIR|VIRTUAL_ENV|PYTHON\w+|LD_\w+"
    r"|SSL_CERT_\w+|REQUESTS_CA_BUNDLE|\w+_NUM_THREADS|OPENBLAS_\w+|DO_NOT_TRACK"
    r"|PREFECT_\w+|MLFLOW_\w+|RAFT_HOME|RAFT_ROOT"
)
# Secrets that the servers need for their own databases.
OWN = re.compile(r"PREFECT_(SERVER|API)_DATABASE_\w+|PG\w+")
# Logins of clients: a server checks logins and needs none.
LOGINS = re.compile(r"PREFECT_API_(KEY|AUTH_STRING)|MLFLOW_TRACKING_\w+")


def for_servers(environment: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the part of an environment that a server needs."""
    given = os.environ if environment is None else environment
    return {
        name: value
        for name, value in given.items()
        if (INHERITED.fullmatch(name) and not is_secret_name(name) and not LOGINS.fullmatch(name))
        or OWN.fullmatch(name)
    }
