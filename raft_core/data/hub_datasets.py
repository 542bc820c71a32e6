"""Read rows of a dataset of the Hugging Face hub, at one commit.

The commit's data files are fetched into the hub's own cache, where a run without a network finds
them again, and are read from there as plain files: code that a repository brings is not fetched.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any

from raft_core.data.columnar import ROWS_AT_ONCE, Allowance, readable, rows_of
from raft_core.data.parquet_files import read_parquet, rows_in
from raft_core.data.records import SPLITS
from raft_core.errors import InputError

DATA_FILES = ("*.parquet", "*.json", "*.jsonl", "*.csv", "*.tsv", "*.gz", "*.zst", "README.md")

KINDS = ("parquet", "json", "csv")
COMPRESSED = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd"}
# zip, xz, bzip2, 7z, RAR, lz4: `datasets` unpacks a file by its first bytes, whatever its name.
ARCHIVES = (b"PK", b"\xfd7zXZ", b"BZh", b"7z\xbc\xaf", b"Rar!", b"\x04\x22\x4d\x18")


def read_hub_rows(
    name: str, commit: str, subset: str | None, split: str | None, named: Collection[str]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield (where, row) of one split, or of all splits, where each row names its own.

    `datasets` tells which files belong to a split and reads those that are no Parquet files; it
    decodes nothing.

    Raises:
        InputError: the commit's files are neither here nor reachable, or have no such rows.
    """
    where = f"hub:{name}{f'/{subset}' if subset else ''}"
    folder = Path(snapshot(name, commit))
    try:
        require_own_files(name, folder)
        files = files_by_split(folder, subset)
        if all(file.suffix == ".parquet" for some in files.values() for file in some):
            chosen = [split] if split is not None else list(files)
            parts = {part: _rows_of_parquet(files, part, named) for part in chosen}
        else:
            parts = _rows_of_texts(folder, subset, split, files, named)
    except InputError:
        raise
    except Exception as error:  # datasets raises nearly anything for files that it cannot read
        raise InputError(
            f"data 'hub:{name}' at {commit[:12]}: not readable as subset '{subset or 'default'}', "
            f"split '{split or 'all'}' ({_first_line(error)}); name them under 'subset' and 'split'"
        ) from None
    for part, rows in parts.items():
        own = {"split": part} if split is None and part in SPLITS else {}
        for number, row in enumerate(rows, 1):
            yield f"{where} {part} row {number}", own | row


def files_by_split(folder: Path, subset: str | None) -> dict[str, list[Path]]:
    """Return the data files of each split, as `datasets` finds them.

    Raises:
        ValueError: one of them is not the dataset's own, or of a kind that is not read.
    """
    from datasets import load_dataset_builder

    builder = load_dataset_builder(str(folder), subset)
    kind = type(builder).__module__.rpartition(".")[2]
    if kind not in KINDS:
        raise ValueError(f"files of the kind '{kind}'; {', '.join(KINDS)} are read")
    found = {
        str(part): [Path(f) for f in files] for part, files in builder.config.data_files.items()
    }
    for file in (file for files in found.values() for file in files):
        if "::" in str(file) or not file.is_relative_to(folder.resolve()):
            raise ValueError(f"'{str(file)[:100]}' is no file of its own")
    return found


def _rows_of_parquet(
    files: Mapping[str, Sequence[Path]], split: str, named: Collection[str]
) -> Iterator[dict[str, Any]]:
    """Return the rows of a split, or of a part that `datasets` understands, such as `train[:10%]`.

    Raises:
        ValueError: there is no such split.
    """
    from datasets import ReadInstruction

    lengths = {part: sum(map(rows_in, some)) for part, some in files.items()}
    chosen = ReadInstruction.from_spec(split).to_absolute(lengths)
    return (
        row
        for some in chosen
        for _, row in islice(
            chain.from_iterable(read_parquet(file, named) for file in files[some.splitname]),
            some.from_,
            some.to,
        )
    )


def _rows_of_texts(
    folder: Path,
    subset: str | None,
    split: str | None,
    files: Mapping[str, Sequence[Path]],
    named: Collection[str],
) -> dict[str, Iterator[dict[str, Any]]]:
    """Return the rows of JSON and CSV files by split, from the table that `datasets` makes."""
    from datasets import DatasetDict, load_dataset

    for file in (file for some in files.values() for file in some):
        require_growth(file)
    loaded = load_dataset(str(folder), subset, split=split)
    parts = loaded.items() if isinstance(loaded, DatasetDict) else [(split, loaded)]
    return {str(part): _rows_of_table(folder, dataset, named) for part, dataset in parts}


def _rows_of_table(folder: Path, dataset: Any, named: Collection[str]) -> Iterator[dict[str, Any]]:
    names = dataset.column_names
    plain = dataset.select_columns([name for name in names if name in named])
    tables = plain.with_format("arrow").iter(ROWS_AT_ONCE)
    batches = (batch for table in tables for batch in table.to_batches())
    for _, row in rows_of(str(folder), batches, names, Allowance(folder, dataset.data.nbytes)):
        yield row


def require_growth(file: Path) -> None:
    """Refuse a compressed file that holds too much: it is unpacked to disk to be read.

    Raises:
        InputError: it holds more than its size allows, or is an archive.
    """
    import fsspec

    with open(file, "rb") as handle:
        begin = handle.read(6)
    if begin.startswith(ARCHIVES):
        raise InputError(f"{file}: an archive; use files of JSON, CSV or Parquet")
    kind = next((name for mark, name in COMPRESSED.items() if begin.startswith(mark)), None)
    if kind is not None:
        allowed = Allowance(file, file.stat().st_size)
        with readable(file, f"{kind} file"), fsspec.open(str(file), compression=kind) as handle:
            while some := handle.read(2**20):
                allowed.take(len(some))


def require_own_files(name: str, folder: Path) -> None:
    """Require that the dataset's card names only files of its own: `datasets` would read any.

    Raises:
        InputError: it names one elsewhere.
    """
    import yaml
    from huggingface_hub.repocard import metadata_load

    card, beside = folder / "README.md", folder / ".huggingface.yaml"
    metadata = [metadata_load(card) if card.is_file() else None]
    # Not fetched here, but `datasets` obeys it if another program has fetched it.
    metadata += [yaml.safe_load(beside.read_text(encoding="utf-8"))] if beside.is_file() else []
    for text in texts_of([(told or {}).get("configs") for told in metadata]):
        path = Path(text)
        chained = "://" in text or "::" in text
        if path.is_absolute() or ".." in path.parts or chained or text.startswith("~"):
            raise InputError(
                f"data 'hub:{name}': its card names a file that is not its own ('{text[:100]}'); "
                "use another dataset, or a file of yours"
            )


def texts_of(value: Any) -> Iterator[str]:
    """Yield all strings in nested lists and mappings; visit what YAML aliases repeat once."""
    seen, waiting = set[int](), [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, str):
            yield item
        elif isinstance(item, dict | list) and id(item) not in seen:
            seen.add(id(item))
            waiting += item.values() if isinstance(item, dict) else item


def snapshot(name: str, commit: str) -> str:
    """Return the folder that holds the commit's data files, fetched if need be.

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
