"""A file system of fsspec: how it is opened, what it tells of a file, what its errors say."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from raft_core.errors import InputError

# s3fs holds parts of 50 MiB, 100 MiB of a file below that: these bound it to 800 MiB.
PARALLEL_FILES = 4
PARALLEL_PARTS = 4
OPTIONS: dict[str, dict[str, Any]] = {
    "file": {"auto_mkdir": True},
    "s3": {"max_concurrency": PARALLEL_PARTS},
}


def connect(url: str) -> tuple[Any, str]:
    """The file system of a URL, as fsspec makes it, and the path on it.

    Raises:
        InputError: no installed package knows the protocol.
    """
    from fsspec.core import url_to_fs

    options = OPTIONS.get(url.partition("://")[0], {})
    try:
        # Other machines write there too: what was listed or configured before may be outdated.
        fs, root = url_to_fs(url, skip_instance_cache=True, use_listings_cache=False, **options)
    except (ValueError, ImportError) as error:
        raise InputError(f"store '{url}': {error}") from None
    except Exception as error:
        raise InputError(f"store '{url}' cannot be reached: {reason(error)}") from None
    fs.batch_size = PARALLEL_FILES
    return fs, root


# What S3, a folder, Google's, Azure's and the memory's file systems call it.
TIMES = ("LastModified", "mtime", "updated", "last_modified", "created")


def written(about: Mapping[str, Any]) -> datetime:
    """When a file was written, as S3, a folder and other file systems tell it; else now."""
    times = (about.get(name) for name in TIMES)
    when = next((time for time in times if time is not None), None)
    if isinstance(when, int | float):
        return datetime.fromtimestamp(when, UTC)
    if isinstance(when, str):
        when = datetime.fromisoformat(when)
    return when if isinstance(when, datetime) else datetime.now(UTC)


def remove_exactly(fs: Any, folder: str, files: Iterable[str]) -> None:
    """Remove files of a folder by their very names, and then its folders that are empty.

    `fs.rm` takes `*`, `?` and `[` in a name for a glob, and removes whatever it finds.
    """
    for path in files:
        fs.rm_file(path)
    # A file system of keys has no folders to find.
    left = fs.find(folder, withdirs=True, detail=True)
    for path in sorted((p for p in left if left[p]["type"] == "directory"), reverse=True):
        with suppress(OSError):  # something stands there still
            fs.rmdir(path)


def reason(error: Exception) -> str:
    """What went wrong by its type and code: the text of an error may hold addresses and keys."""
    answer = getattr(error.__cause__, "response", None)  # of S3, where it answered at all
    code = answer.get("Error", {}).get("Code") if isinstance(answer, dict) else None
    kind = code or type(error).__name__
    if isinstance(error, FileNotFoundError):
        return f"no such bucket or folder ({kind})"
    if isinstance(error, PermissionError):
        return f"access denied ({kind})"
    if isinstance(error, OSError) and error.errno:
        return f"{os.strerror(error.errno)} ({kind})"
    return kind
