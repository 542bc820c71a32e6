"""Users of an MLflow server behind MLflow's own login (`basic-auth`, as in docker/)."""

from __future__ import annotations

from raft_core.errors import InputError, first_line
from tasks.tracking.masking import masked


def ensure_user(tracking_uri: str, name: str, password: str) -> None:
    """Make a user without rights of an administrator, or give it this password.

    It may do all with the experiments and models that it makes itself. The environment's
    MLFLOW_TRACKING_USERNAME and _PASSWORD are an administrator's.

    Raises:
        InputError: the server does not let us, or the password is none that it takes.
    """
    from mlflow.exceptions import MlflowException
    from mlflow.server import get_app_client

    users = get_app_client("basic-auth", tracking_uri)
    try:
        try:
            users.create_user(name, password)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
            users.update_user_password(name, password)
    except MlflowException as error:
        raise InputError(
            f"MLflow's user '{name}' cannot be made: {masked(first_line(error.message))}; look at "
            "MLFLOW_TRACKING_USERNAME, MLFLOW_TRACKING_PASSWORD and MLFLOW_WORKER_PASSWORD"
        ) from None
