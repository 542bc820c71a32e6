"""Rows of a dataset of the Hugging Face hub, at one commit.

The commit's data files are fetched into the hub's own cache, where a run without a network finds
them again, and are read from there as plain files: code that a repository brings is not fetched.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from raft_core.errors import InputError
from raft_core.records import SPLITS

DATA_FILES = ("*.parquet", "*.json", "*.jsonl", "*.csv", "*.tsv", "*.gz", "*.zst", "README.md")


def read_hub_rows(
    name: str, commit: str, subset: str | None, split: str | None
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields (where, row) of one split, or of all splits, each row then with its own.

    Raises:
        InputError: the commit's files are neither here nor reachable, or have no such rows.
    """
    from datasets import DatasetDict, load_dataset

    where = f"hub:{name}{f'/{subset}' if subset else ''}"
    folder = snapshot(name, commit)
    require_own_files(name, Path(folder))
    try:
        loaded = load_dataset(folder, subset, split=split)
    except Exception as error:  # datasets raises nearly anything for files that it cannot read
        raise InputError(
            f"data 'hub:{name}' at {commit[:12]}: not readable as subset '{subset or 'default'}', "
            f"split '{split or 'all'}' ({_first_line(error)}); name them under 'subset' and 'split'"
        ) from None
    parts = loaded.items() if isinstance(loaded, DatasetDict) else [(split, loaded)]
    for part, dataset in parts:
        own = {"split": part} if split is None and part in SPLITS else {}
        for number, row in enumerate(dataset, 1):
            yield f"{where} {part} row {number}", own | row


def require_own_files(name: str, folder: Path) -> None:
    """The dataset's card may name files of its own alone: `datasets` would read any.

    Raises:
        InputError: it names one elsewhere.
    """
    from huggingface_hub.repocard import metadata_load

    card = folder / "README.md"
    metadata = metadata_load(card) if card.is_file() else None
    for text in texts_of((metadata or {}).get("configs")):
        path = Path(text)
        if path.is_absolute() or ".." in path.parts or "://" in text or text.startswith("~"):
            raise InputError(
                f"data 'hub:{name}': its card names a file that is not its own ('{text[:100]}'); "
                "use another dataset, or a file of yours"
            )


def texts_of(value: Any) -> Iterator[str]:
    """All strings in nested lists and mappings."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from texts_of(item)
    elif isinstance(value, list):
        for item in value:
            yield from texts_of(item)


def snapshot(name: str, commit: str) -> str:
    """The folder that holds the commit's data files.

    Raises:
        InputError: they are neither here nor reachable.
    """
    from huggingface_hub import snapshot_download

    try:
        folder: str = snapshot_download(
            name, repo_type="dataset", revision=commit, allow_patterns=list(DATA_FILES)
        )
    except Exception as error:  # any network or hub failure, or offline without the files
        raise InputError(
            f"data 'hub:{name}' at {commit[:12]}: not in the hub's cache here and not to be had "
            f"from the hub ({type(error).__name__}); fetch it once with a network, or give a file"
        ) from None
    return folder


def _first_line(error: Exception) -> str:
    said = str(error).strip().splitlines()
    return f"{type(error).__name__}: {said[0][:200]}" if said else type(error).__name__
