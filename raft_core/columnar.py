"""Rows of Arrow and Parquet files: the named columns alone, undecoded, some rows at a time.

A small file can stand for any amount of text: equal texts are stored once, compressed ones hardly
at all. So columns stay as they are stored until the lengths of their texts are known. Nothing that
a cell names, the file of an image say, is opened.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from raft_core.errors import InputError, first_line

ROWS_AT_ONCE = 512
FEW_ROWS = 4
# Of one text; UTF-8 takes up to four for each of the characters that a field may have.
MAX_TEXT_BYTES = 400_000
# A file's named columns may hold so much, or so many times what the file takes.
LEAST_BYTES = 256 * 2**20
MAX_GROWTH = 64
BYTES_A_VALUE = 8
COMPRESSION = 3  # the place of this field in an Arrow record batch's description
Row = tuple[str, dict[str, Any]]


class Undecoded:
    """What stands in a row for an image, audio or other file, which is not opened."""

    def __repr__(self) -> str:
        return "an image or another file"


UNDECODED = Undecoded()


@contextmanager
def readable(path: Path, kind: str) -> Iterator[None]:
    """Whatever a library says of a file that it cannot read or turn into rows is one error."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        told = f"{type(error).__name__}: {first_line(error)}"
        raise InputError(f"{path}: not a {kind} ({told}); write it again") from None


@dataclass
class Allowance:
    """How much text may still come out of files that take `stored` bytes."""

    path: Path
    stored: int
    used: int = 0
    limit: int = field(init=False)

    def __post_init__(self) -> None:
        self.limit = max(LEAST_BYTES, MAX_GROWTH * self.stored)

    def take(self, size: int) -> None:
        """
        Raises:
            InputError: it is more than is left.
        """
        self.used += size
        if self.used > self.limit:
            raise InputError(
                f"{self.path}: {self.stored:,} bytes that hold over {self.limit:,} bytes of rows "
                f"(at most {LEAST_BYTES:,}, or {MAX_GROWTH} times the file); give fewer rows, or "
                "write it again without compression"
            )


def read_parquet(path: Path, named: Collection[str]) -> Iterator[Row]:
    """Yields (where, row) with the named columns; all others stand there as None.

    Raises:
        InputError: the file is torn, or holds more than may be read.
    """
    import pyarrow.parquet as parquet

    with readable(path, "readable Parquet file"):
        with parquet.ParquetFile(path) as file:
            chosen, texts = _leaves(path, file, named)
            at_once = _rows_at_once(path, file, chosen)
        allowed = Allowance(path, path.stat().st_size)
        with parquet.ParquetFile(path, read_dictionary=texts) as file:
            names = file.schema_arrow.names
            known = [name for name in dict.fromkeys(names) if name in named]
            batches = _parquet_batches(path, file, known, texts, at_once)
            yield from rows_of(str(path), batches, names, allowed)


def _parquet_batches(
    path: Path, file: Any, known: list[str], texts: list[str], at_once: int
) -> Iterator[Any]:
    """A row group after the other, since each has texts of its own that are stored once.

    Where a writer gave up storing them so, Arrow cannot put lists together from both kinds: those
    are read as plain ones, a few rows at a time.
    """
    import pyarrow as pa
    import pyarrow.parquet as parquet

    for group in range(file.num_row_groups):
        done = 0
        try:
            for batch in file.iter_batches(
                at_once, row_groups=[group], columns=known, use_threads=False
            ):
                yield batch
                done += batch.num_rows
        except pa.ArrowNotImplementedError:
            flat = [name for name in texts if name in known]
            with parquet.ParquetFile(path, read_dictionary=flat) as plain:
                for batch in plain.iter_batches(
                    FEW_ROWS, row_groups=[group], columns=known, use_threads=False
                ):
                    yield batch.slice(min(done, batch.num_rows))
                    done = max(done - batch.num_rows, 0)


def _leaves(path: Path, file: Any, named: Collection[str]) -> tuple[list[int], list[str]]:
    """Numbers of the named columns' leaves, and paths of those whose texts can stay as stored."""
    chosen = [n for n in range(len(file.schema)) if _top(file, n) in named]
    allowed = Allowance(path, path.stat().st_size)
    plain = set()
    for group in range(file.metadata.num_row_groups):
        for number in chosen:
            chunk = file.metadata.row_group(group).column(number)
            allowed.take(chunk.total_uncompressed_size + BYTES_A_VALUE * chunk.num_values)
            if _is_delta(chunk):  # Arrow reads these as they are
                plain.add(number)
    kept = [n for n in chosen if n not in plain]
    return chosen, [
        file.schema.column(n).path
        for n in kept
        if file.schema.column(n).physical_type == "BYTE_ARRAY"
    ]


def _rows_at_once(path: Path, file: Any, chosen: Sequence[int]) -> int:
    """Fewer where each text may repeat most of the one before: any row may be the longest."""
    groups = (file.metadata.row_group(g) for g in range(file.metadata.num_row_groups))
    chunks = (group.column(number) for group in groups for number in chosen)
    longest = max((c.total_uncompressed_size for c in chunks if _is_delta(c)), default=1)
    return min(ROWS_AT_ONCE, max(1, LEAST_BYTES // max(longest, 1)))


def _is_delta(chunk: Any) -> bool:
    return "DELTA_BYTE_ARRAY" in chunk.encodings


def _top(file: Any, number: int) -> str:
    path, name = file.schema.column(number).path, file.schema_arrow.names
    # A name may hold dots itself.
    return max((n for n in name if path == n or path.startswith(f"{n}.")), key=len, default=path)


def read_saved(path: Path, named: Collection[str]) -> Iterator[tuple[str | None, Row]]:
    """Yields (split, (where, row)) of a folder that `datasets` saved, without that library.

    It would decode what the columns are described as, and open what the descriptions name.

    Raises:
        InputError: the folder is none, or holds more than may be read.
    """
    with readable(path, "folder saved by datasets"):
        whole = not (path / "state.json").is_file() and (path / "dataset_dict.json").is_file()
        splits = _object(path / "dataset_dict.json")["splits"] if whole else [None]
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
    return [folder / _own_name(file["filename"]) for file in files]


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
    """The names of all columns, and batches of the named ones."""
    import pyarrow as pa

    if file.is_symlink():
        raise ValueError(f"{file.name} is a link")
    with pa.memory_map(str(file)) as source:
        schema = pa.ipc.open_stream(source).schema
    chosen = [n for n, name in enumerate(schema.names) if name in named]

    def batches() -> Iterator[Any]:
        with pa.memory_map(str(file)) as source:
            for message in pa.ipc.MessageReader.open_stream(source):
                if message.type == "record batch" and _is_compressed(message.metadata):
                    raise ValueError("its batches are compressed, which `datasets` does not do")
        with pa.memory_map(str(file)) as source:
            options = pa.ipc.IpcReadOptions(included_fields=chosen)
            for batch in pa.ipc.open_stream(source, options=options):
                batch.validate(full=True)  # a wrong offset reads what is not the file's
                for start in range(0, batch.num_rows, ROWS_AT_ONCE):
                    yield batch.slice(start, ROWS_AT_ONCE)

    return schema.names, batches() if chosen else _empty_rows(file)


def _empty_rows(file: Path) -> Iterator[Any]:
    import pyarrow as pa

    with pa.memory_map(str(file)) as source:
        for batch in pa.ipc.open_stream(source):
            yield batch.select([])


def _is_compressed(description: Any) -> bool:
    """Whether an Arrow message says so: the fourth field of the table that its header is."""
    data = memoryview(description)

    def place(table: int, number: int) -> int:
        described = table - struct.unpack_from("<i", data, table)[0]
        (size,) = struct.unpack_from("<H", data, described)
        slot = 4 + 2 * number
        return struct.unpack_from("<H", data, described + slot)[0] if slot < size else 0

    (message,) = struct.unpack_from("<I", data, 0)
    header = message + place(message, 2)
    return place(header + struct.unpack_from("<I", data, header)[0], COMPRESSION) != 0


def rows_of(
    where: str, batches: Iterator[Any], names: Sequence[str], allowed: Allowance, first: int = 1
) -> Iterator[Row]:
    """Yields (where, row) of record batches; `names` are those of all columns.

    Raises:
        InputError: a text is too long, there is too much of it, or a column is there twice.
    """
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise InputError(f"{where}: the column '{twice[:60]}' is there twice; rename one")
    number, unread = first, dict.fromkeys(names)
    for batch in batches:
        columns = {}
        for name, column in zip(batch.schema.names, batch.columns, strict=True):
            if _holds_files(column.type):
                columns[name] = [UNDECODED] * batch.num_rows
                continue
            allowed.take(_require_lengths(where, number, name, column))
            values = column.to_pylist()
            if _holds_json(column.type):
                values = [_plain(value, column.type) for value in values]
            columns[name] = values
        for _ in range(batch.num_rows - len(next(iter(columns.values()), []))):
            yield f"{where} row {number}", dict(unread)  # no column is named
            number += 1
        for cells in zip(*columns.values(), strict=True):
            yield f"{where} row {number}", unread | dict(zip(columns, cells, strict=True))
            number += 1


def _holds_files(kind: Any) -> bool:
    """Whether bytes stand in it: those of an image say, beside the path that they came from."""
    import pyarrow as pa

    if isinstance(kind, pa.BaseExtensionType):
        return _holds_files(kind.storage_type)
    if pa.types.is_dictionary(kind):
        return _holds_files(kind.value_type)
    if kind.num_fields:
        return any(_holds_files(kind.field(n).type) for n in range(kind.num_fields))
    types = pa.types
    return bool(
        types.is_binary(kind)
        or types.is_large_binary(kind)
        or types.is_fixed_size_binary(kind)
        or types.is_binary_view(kind)
    )


def _require_lengths(where: str, first: int, name: str, column: Any) -> int:
    """Bytes of all values of a column, none of whose texts is too long."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if isinstance(column, pa.ExtensionArray):
        return _require_lengths(where, first, name, column.storage)
    kind, size = column.type, BYTES_A_VALUE * len(column)
    if pa.types.is_struct(kind):
        parts = column.flatten()
        return size + sum(_require_lengths(where, first, name, part) for part in parts)
    if pa.types.is_map(kind):
        parts = [column.keys, column.items]
        return size + sum(_require_lengths(where, first, name, part) for part in parts)
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        return size + _require_lengths(where, first, name, column.flatten())
    texts = column.dictionary if pa.types.is_dictionary(kind) else column
    if pa.types.is_string_view(texts.type):
        texts = texts.cast(pa.large_string())
    if not (pa.types.is_string(texts.type) or pa.types.is_large_string(texts.type)):
        return size
    lengths = pc.binary_length(texts)
    if texts is not column and pa.types.is_dictionary(kind):
        lengths = pc.take(lengths, column.indices)
    longest = pc.max(lengths).as_py() or 0
    if longest > MAX_TEXT_BYTES:
        index = pc.index(lengths, longest).as_py()
        row = f"row {first + index}" if len(lengths) == len(column) else f"from row {first} on"
        raise InputError(
            f"{where} {row}: field '{name}' has {longest:,} bytes, over {MAX_TEXT_BYTES:,}; "
            "split it, or leave the row out"
        )
    return size + (pc.sum(lengths).as_py() or 0)


def _plain(value: Any, kind: Any) -> Any:
    """A value of Python; what a column of JSON holds as text, as the value that it stands for."""
    import pyarrow as pa

    if value is None or not _holds_json(kind):
        return value
    if isinstance(kind, pa.BaseExtensionType):
        return json.loads(value)
    if pa.types.is_struct(kind):
        return {name: _plain(item, kind.field(name).type) for name, item in value.items()}
    return [_plain(item, kind.value_type) for item in value] if isinstance(value, list) else value


def _holds_json(kind: Any) -> bool:
    import pyarrow as pa

    if isinstance(kind, pa.JsonType):
        return True
    return any(_holds_json(kind.field(n).type) for n in range(kind.num_fields))
