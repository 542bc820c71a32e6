"""Turn batches of columns into rows: only named columns, undecoded, and within a size limit.

A small file can stand for any amount of text: equal texts are stored once, compressed ones hardly
at all. So columns stay as they are stored until the lengths of their texts are known. Nothing that
a cell names, the file of an image say, is opened.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from raft_core.errors import InputError, first_line

ROWS_AT_ONCE = 512
# Longest text in bytes: UTF-8 takes up to four for each character that a field may have.
MAX_TEXT_BYTES = 400_000
# The named columns of a file may hold LEAST_BYTES, or MAX_GROWTH times the file's own size.
LEAST_BYTES = 256 * 2**20
MAX_GROWTH = 64
BYTES_A_VALUE = 8
Row = tuple[str, dict[str, Any]]


class Undecoded:
    """Placeholder in a row for an image, audio or other file, which is not opened."""

    def __repr__(self) -> str:
        return "an image or another file"


UNDECODED = Undecoded()


@contextmanager
def readable(path: Path, kind: str) -> Iterator[None]:
    """Turn whatever a library raises for a file that it cannot read into one error.

    Raises:
        InputError: with the file, its kind and the library's first line.
    """
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
        """Count `size` bytes as read.

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


def rows_of(
    where: str, batches: Iterator[Any], names: Sequence[str], allowed: Allowance, first: int = 1
) -> Iterator[Row]:
    """Yield (where, row) of record batches; `names` are those of all columns.

    Raises:
        InputError: a text is too long, there is too much of it, a column is there twice, or of a
            type whose size cannot be known beforehand.
    """
    if len(set(names)) != len(names):
        twice = next(name for name, count in Counter(names).items() if count > 1)
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
    """Return whether a type holds bytes, such as those of an image beside its path."""
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
    """Return the bytes of all values of a column.

    Raises:
        InputError: a text is too long, or the type's sizes cannot be told beforehand.
    """
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
        if _is_flat(texts.type):
            return size
        raise InputError(
            f"{where}: the column '{name[:60]}' is stored as {str(kind)[:60]}, which is not read; "
            "write it as text, a list or a struct"
        )
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


def _is_flat(kind: Any) -> bool:
    """Return whether every value takes the same few bytes; others may repeat stored ones."""
    import pyarrow as pa

    types = pa.types
    number = types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind)
    return bool(number or types.is_boolean(kind) or types.is_null(kind) or types.is_temporal(kind))


def _plain(value: Any, kind: Any) -> Any:
    """Return a Python value, with the texts of JSON columns parsed."""
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
