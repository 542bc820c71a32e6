"""Read rows of a folder that `datasets` saved, as Arrow and without that library."""

from __future__ import annotations

import json
import struct
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from raft_core.data.columnar import ROWS_AT_ONCE, Allowance, Row, readable, rows_of

# Field numbers in the flatbuffers of an Arrow message, a dictionary and a record batch.
HEADER, DICTIONARY_ROWS, COMPRESSION = 2, 1, 3


def read_saved(path: Path, named: Collection[str]) -> Iterator[tuple[str | None, Row]]:
    """Yield (split, (where, row)) of a folder that `datasets` saved, without that library.

    The library would decode what the columns are described as, and open what the descriptions name.

    Raises:
        InputError: the folder is none, or holds more than may be read.
    """
    with readable(path, "folder saved by datasets"):
        whole = not (path / "state.json").is_file() and (path / "dataset_dict.json").is_file()
        splits = _object(path / "dataset_dict.json")["splits"] if whole else [None]
        if len(set(splits)) < len(splits):
            raise ValueError("dataset_dict.json names a split twice")
        for split in splits:
            folder = path / _own_name(split) if split is not None else path
            where = f"{path}{f'/{split}' if split else ''}"
            files = _arrow_files(folder)
            allowed = Allowance(path, sum(file.stat().st_size for file in files))
            start = 1
            for file in files:
                names, batches = _arrow_batches(file, named)
                for row in rows_of(where, batches, names, allowed, start):
                    start += 1
                    yield split, row


def _arrow_files(folder: Path) -> list[Path]:
    features = _object(folder / "dataset_info.json").get("features")
    files = _object(folder / "state.json")["_data_files"]
    if not isinstance(features, dict | None):
        raise ValueError("dataset_info.json: 'features' is no object")
    names = [_own_name(file["filename"]) for file in files]
    if len(set(names)) < len(names):
        raise ValueError("state.json names a file twice")
    return [folder / name for name in names]


def _object(file: Path) -> dict[str, Any]:
    value = json.loads(file.read_text(encoding="utf-8"))
    if not isinstance(value, dict):
        raise TypeError(f"{file.name} holds no object")
    return value


def _own_name(name: Any) -> str:
    if not isinstance(name, str) or Path(name).name != name or name in ("", ".", ".."):
        raise ValueError(f"it names '{str(name)[:100]}', which is no name of its own")
    return name


def _arrow_batches(file: Path, named: Collection[str]) -> tuple[list[str], Iterator[Any]]:
    """Return the names of all columns, and batches of the named ones."""
    import pyarrow as pa

    if file.is_symlink():
        raise ValueError(f"{file.name} is a link")
    with pa.memory_map(str(file)) as source:
        schema = pa.ipc.open_stream(source).schema
    chosen = [n for n, name in enumerate(schema.names) if name in named]
    one = chosen or [0]  # one column counts the rows if none is named; no choice would read all

    def batches() -> Iterator[Any]:
        with pa.memory_map(str(file)) as source:
            for message in pa.ipc.MessageReader.open_stream(source):
                if message.type != "schema" and _is_compressed(message):
                    raise ValueError("its batches are compressed, which `datasets` does not do")
        with pa.memory_map(str(file)) as source:
            options = pa.ipc.IpcReadOptions(included_fields=one)
            for batch in pa.ipc.open_stream(source, options=options):
                batch = batch if chosen else batch.select([])
                batch.validate(full=True)  # a wrong offset reads what is not the file's
                for start in range(0, batch.num_rows, ROWS_AT_ONCE):
                    yield batch.slice(start, ROWS_AT_ONCE)

    return schema.names, batches()


def _is_compressed(message: Any) -> bool:
    """Return whether an Arrow message of rows or of dictionary texts is marked as compressed."""
    data = memoryview(message.metadata)

    def place(table: int, number: int) -> int:
        """Return where a field of a table stands, or 0 where it is left out."""
        described = table - struct.unpack_from("<i", data, table)[0]
        (size,) = struct.unpack_from("<H", data, described)
        slot = 4 + 2 * number
        offset = struct.unpack_from("<H", data, described + slot)[0] if slot < size else 0
        return table + offset if offset else 0

    def follow(table: int, number: int) -> int:
        found = place(table, number)
        return found + struct.unpack_from("<I", data, found)[0]

    rows = follow(struct.unpack_from("<I", data, 0)[0], HEADER)
    if message.type == "dictionary":
        rows = follow(rows, DICTIONARY_ROWS)
    return place(rows, COMPRESSION) != 0
