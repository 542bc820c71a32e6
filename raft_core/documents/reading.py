"""Reading documents: what cannot be read costs itself, with a reason, and never the run.

Rows are another matter: a torn line of JSONL leaves open what else is missing, and ends with one
error that names file, row, field and remedy, as domain data does.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from raft_core.data.records import Rejection
from raft_core.data.sources import checked_id, read_objects
from raft_core.documents.records import Document
from raft_core.documents.sources import (
    KINDS,
    MARKDOWN,
    MINI,
    ROWS,
    DocumentSource,
    SourceFile,
    files_of,
)
from raft_core.errors import InputError

STAGE = "passages"
BYTES_A_CHARACTER = 4
MAX_TITLE = 1_000  # characters, of the source too
Read = Document | Rejection


def read_documents(
    source: DocumentSource, max_characters: int, limit: int | None = None
) -> tuple[list[Document], list[Rejection]]:
    """All documents that can be asked about, and why the others cannot; by name.

    `limit` keeps the documents lowest by the hash of their ids, the rejected ones counted.

    Raises:
        InputError: a row is no document, two have one id, or there is no document at all.
    """
    rows = list(_read(source, max_characters))
    if not rows:
        raise InputError(f"documents '{source.path}': no rows")
    if limit is not None:
        chosen = {row.id for row in sorted(rows, key=lambda row: _sha(row.id.encode()))[:limit]}
        rows = [row for row in rows if row.id in chosen]
    rejected = [row for row in rows if isinstance(row, Rejection)]
    readable = [row for row in rows if isinstance(row, Document)]
    documents, repeated = drop_repeated(readable)
    return documents, rejected + repeated


def _read(source: DocumentSource, max_characters: int) -> Iterator[Read]:
    seen: dict[str, str] = {}
    for where, own_id, row in _sources(source, max_characters):
        if row.id in seen and own_id:
            raise InputError(
                f"{where}: field 'id' repeats '{row.id}' of {seen[row.id]}; make ids unique or "
                "leave them out"
            )
        if row.id in seen:  # the same text again: to be rejected as a duplicate
            row = replace(row, id=f"{row.id}-{len(seen)}")
        seen[row.id] = where
        yield row


def _sources(source: DocumentSource, max_characters: int) -> Iterator[tuple[str, bool, Read]]:
    """(where it stands, whether it brings its own id, document or rejection)."""
    if source.is_mini:
        for number, row in enumerate(_mini_rows(source.path), 1):
            yield _from_row(f"{source.path} row {number}", source.path, row, max_characters)
        return
    for file in files_of(source.path):
        if file.kind in ROWS and file.is_regular and not file.outside:
            for where, row in read_objects(file.path, "'text'"):
                yield _from_row(where, file.name, row, max_characters)
        else:
            yield str(file.path), True, from_file(file, max_characters)


def _mini_rows(path: str) -> list[dict[str, str]]:
    from raft_core.mini import documents

    try:
        return documents.load(path.removeprefix(MINI))
    except ValueError as error:
        raise InputError(f"documents '{path}': {error}") from None


def from_file(file: SourceFile, max_characters: int) -> Read:
    """A text or Markdown file; its first heading is the title."""
    if file.outside:
        return _rejected(
            file.name,
            "outside_folder",
            "a link out of the folder; copy the file into it",
        )
    if not file.name.isprintable() or not _is_text(file.name):
        return _rejected(_shown(file.name), "unreadable_name", "a name that is no plain text")
    if not file.is_regular:
        return _rejected(file.name, "not_a_file", "a pipe, a device or a socket")
    if file.kind not in KINDS:
        return _rejected(file.name, "unknown_kind", f"'{file.kind}' is not .txt, .md or .jsonl")
    try:
        if file.path.stat().st_size > BYTES_A_CHARACTER * max_characters:
            return _rejected(file.name, "document_too_long", f"over {max_characters:,} characters")
        content = file.path.read_bytes()
    except OSError as error:
        return _rejected(file.name, "unreadable", str(error.strerror))
    try:
        text = plain_line_ends(content.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        return _rejected(file.name, "not_utf8", f"{error.reason} at byte {error.start}")
    markdown = file.kind in MARKDOWN
    heading = re.search(r"^#{1,6} +(.+?)[ #]*$", text, re.MULTILINE) if markdown else None
    title = heading[1] if heading else file.path.stem
    document = Document(file.name, file.name, title, text, _sha(content), markdown)
    return checked(document, max_characters)


def _from_row(
    where: str, name: str, row: dict[str, Any], max_characters: int
) -> tuple[str, bool, Read]:
    """A row with `text`, and if it likes `id`, `title` and `source`.

    Raises:
        InputError: a field is missing, or not text.
    """
    for field in ("text", "title", "source"):
        value = row.get(field)
        if value is None and field == "text":
            raise InputError(f"{where}: field 'text' is missing (has {sorted(row)}); add it")
        if not isinstance(value, str | None):
            raise InputError(f"{where}: field '{field}' is a {type(value).__name__}, not a string")
    own = checked_id(where, row.get("id"))
    content = row["text"].encode("utf-8", "surrogatepass")
    # A NUL or half of a character may stand in a file's text, never in what is said of it.
    about = {field: _plain(row.get(field) or "") for field in ("title", "source")}
    identity = _sha(content)[:16] if own is None else _plain(own)
    document = Document(
        identity, about["source"] or name, about["title"], row["text"], _sha(content)
    )
    return where, own is not None, checked(document, max_characters)


def checked(document: Document, max_characters: int) -> Read:
    """The document with plain line ends, or the reason why it cannot be asked about."""
    text = plain_line_ends(document.text)
    if not text.strip():
        return _rejected(document.id, "document_empty")
    if "\0" in text:
        return _rejected(document.id, "nul_character", f"at character {text.index(chr(0))}")
    if any("\ud800" <= character <= "\udfff" for character in text):
        return _rejected(document.id, "half_character", "a surrogate without its other half")
    if len(text) > max_characters:
        return _rejected(document.id, "document_too_long", f"{len(text):,} characters")
    if max(len(document.title), len(document.source)) > MAX_TITLE:
        return _rejected(document.id, "title_too_long", f"over {MAX_TITLE:,} characters")
    return replace(document, text=text)


def plain_line_ends(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n")


def drop_repeated(documents: Sequence[Document]) -> tuple[list[Document], list[Rejection]]:
    """Keep the first of documents whose texts are equal up to spacing."""
    kept: dict[str, Document] = {}
    rejected = []
    for document in documents:
        text = " ".join(document.text.split())
        if text in kept:
            rejected.append(_rejected(document.id, "document_duplicate", f"of {kept[text].id}"))
        else:
            kept[text] = document
    return list(kept.values()), rejected


def _is_text(name: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in name)


def _shown(name: str) -> str:
    return name.encode("ascii", "backslashreplace").decode()


def _plain(text: str) -> str:
    return text.encode("utf-8", "replace").decode().replace("\0", "?").strip()


def _rejected(name: str, reason: str, detail: str = "") -> Rejection:
    return Rejection(name, STAGE, reason, detail)


def _sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
