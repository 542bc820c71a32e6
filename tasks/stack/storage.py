"""Create the bucket that workers share."""

from __future__ import annotations

from raft_core.config.runtime import RuntimeConfig
from raft_core.errors import InputError
from raft_core.store.remote_files import connect, reason
from raft_core.store.shared import open_store


def make_bucket(runtime: RuntimeConfig) -> None:
    """Create the bucket of a store on S3 where it is missing, and check that it can be used.

    Raises:
        InputError: it can be neither made nor used.
    """
    address = runtime.store_address
    if address.startswith("s3://"):
        files, root = connect(address)
        bucket = root.split("/")[0]
        try:
            if not files.exists(bucket):
                files.mkdir(bucket)
        except Exception as error:
            raise InputError(f"store '{address}': bucket '{bucket}': {reason(error)}") from None
    open_store(runtime)
