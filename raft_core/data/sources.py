"""Read data: JSONL, Parquet, a `datasets` folder or hub dataset, or the embedded mini world.

Every row is checked before anything else happens; an error names the file, the row, the field and
the remedy.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Collection, Iterator
from math import isfinite
from pathlib import Path
from typing import IO, Any

from pydantic import Field, model_validator

from raft_core.config.base import COMMIT, FrozenConfig, digest_file, hub_commit, local_path
from raft_core.data.columnar import Undecoded
from raft_core.data.parquet_files import read_parquet
from raft_core.data.records import SPLITS
from raft_core.data.saved_datasets import read_saved
from raft_core.errors import InputError

MINI = "mini:"
HUB = "hub:"
MAX_TEXT = 100_000
MAX_ID = 1_000
MAX_LINE = 2**25  # characters; generous, as a row may have fields that are not read


class Columns(FrozenConfig):
    """Names of the fields in the file; `messages` rows need none of them."""

    id: str = "id"
    question: str = "question"
    answer: str = "answer"

    @property
    def pair(self) -> tuple[str, ...]:
        """The fields that may hold a question and its answer."""
        return self.question, self.answer, "messages"


class DataSource(FrozenConfig):
    """Where rows come from; its identity is its content, not its place.

    For the hub the identity is the commit that `revision` (else the default branch) stands for,
    with `subset` and `split`; without a split all are read.
    """

    path: str = Field(
        description="a .jsonl or .parquet file, a datasets folder, hub:ORG/NAME or mini:NAME"
    )
    columns: Columns = Columns()
    revision: str | None = None
    subset: str | None = None
    split: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _accept_plain_path(cls, value: object) -> object:
        return {"path": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _hub_alone_has_revisions(self) -> DataSource:
        named = [n for n in ("revision", "subset", "split") if getattr(self, n) is not None]
        if named and not self.path.startswith(HUB):
            raise ValueError(f"{' and '.join(named)}: only data of the hub (hub:ORG/NAME) has them")
        return self

    @property
    def hub_name(self) -> str | None:
        """The dataset's name on the hub, or None for data of this machine."""
        return self.path.removeprefix(HUB) if self.path.startswith(HUB) else None

    def commit(self) -> str:
        """Return the commit of a dataset of the hub.

        Raises:
            InputError: nothing here knows it.
        """
        name, revision = self.hub_name, self.revision or "main"
        assert name is not None
        if COMMIT.fullmatch(revision):
            return revision
        if re.fullmatch(r"[\w.-]+(/[\w.-]+)?", name) is None:
            raise InputError(f"data '{self.path}': no name of a hub dataset; give hub:ORG/NAME")
        commit = hub_commit(name, revision, "dataset")
        if commit is None:
            raise InputError(
                f"data '{self.path}': the hub's revision '{revision}' cannot be resolved from "
                "here; pin 'revision' to a commit whose files are cached, or give a local file"
            )
        return commit

    def pinned(self) -> DataSource:
        """Return the same data; a hub dataset at the commit that its revision stands for now."""
        if self.hub_name is None:
            return self
        return self.model_copy(update={"revision": self.commit()})

    def identity(self) -> dict[str, Any]:
        """Return the digest of local data or the commit of a hub dataset, with the column names."""
        columns = self.columns.model_dump()
        if self.hub_name is not None:
            chosen = {"subset": self.subset, "split": self.split}
            return {"hub": self.hub_name, "commit": self.commit(), **chosen, "columns": columns}
        if self.path.startswith(MINI):
            from raft_core.mini.world import VERSION

            return {"mini": self.path, "world": VERSION, "columns": columns}
        path = existing(self.path)
        if path.is_file():
            return {"digest": digest_file(path), "columns": columns}
        total = hashlib.sha256()
        for file in sorted(p for p in path.rglob("*") if p.is_file()):
            total.update(f"{file.relative_to(path)}\0{digest_file(file)}\n".encode())
        return {"digest": total.hexdigest(), "columns": columns}


def existing(path: str) -> Path:
    """Return the path, if it exists.

    Raises:
        InputError: it does not.
    """
    found = local_path(path, "data")
    if not found.exists():
        raise InputError(
            f"data '{path}': no such file or folder (looked in {Path.cwd()}); "
            "give a .jsonl or .parquet file, a folder saved by datasets, or hub:ORG/NAME"
        )
    return found


def read_rows(source: DataSource, named: Collection[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield (where, row): `where` is 'FILE row N', for messages.

    From a columnar file only the `named` columns are read; all others are None.

    Raises:
        InputError: the file is missing, of an unknown kind, or a line is no JSON object.
    """
    if source.path.startswith(MINI):
        from raft_core.mini import world

        try:
            rows = world.load(source.path.removeprefix(MINI))
        except ValueError as error:
            raise InputError(f"data '{source.path}': {error}") from None
        yield from ((f"{source.path} row {n}", row) for n, row in enumerate(rows, 1))
        return
    if source.hub_name is not None:
        from raft_core.data.hub_datasets import read_hub_rows

        yield from read_hub_rows(
            source.hub_name, source.commit(), source.subset, source.split, named
        )
        return
    path = existing(source.path)
    if path.is_dir():
        for split, (where, row) in read_saved(path, named):
            yield where, ({"split": split} | row if split in SPLITS else row)
    elif not path.is_file():
        raise InputError(f"data '{source.path}': neither a file nor a folder; give one of them")
    elif path.suffix in {".jsonl", ".json"}:
        yield from read_objects(path)
    elif path.suffix == ".parquet":
        yield from read_parquet(path, named)
    else:
        raise InputError(
            f"data '{source.path}': unknown kind '{path.suffix}'; "
            "give .jsonl, .parquet, or a folder saved by datasets"
        )


def read_objects(
    path: Path, fields: str = "'question' and 'answer'"
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield (where, object) for each line of a JSONL file.

    `fields` names those that a row should have, for messages.

    Raises:
        InputError: the file is not UTF-8, or a line is no JSON object.
    """
    try:
        handle = open(path, encoding="utf-8-sig")  # noqa: SIM115 (some begin with a byte order mark)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}; give a file that can be read") from None
    with handle:
        try:
            for number, line in enumerate(_lines(path, handle), 1):
                if line.strip():
                    yield f"{path} row {number}", _parse_object(path, number, line, fields)
        except UnicodeDecodeError as error:
            raise InputError(f"{path}: not UTF-8 ({error.reason}); convert the file") from None


def _lines(path: Path, handle: IO[str]) -> Iterator[str]:
    """Yield the lines of a text file, none of which is read beyond `MAX_LINE`."""
    number = 0
    while line := handle.readline(MAX_LINE + 1):
        number += 1
        if len(line) > MAX_LINE:
            raise InputError(
                f"{path} row {number}: over {MAX_LINE:,} characters; each line must be one JSON "
                "object, split it"
            )
        yield line


def _parse_object(path: Path, number: int, line: str, fields: str) -> dict[str, Any]:
    try:
        row = json.loads(line.strip(), object_pairs_hook=once)
    except (ValueError, RecursionError) as error:
        reason = str(error)
        if isinstance(error, json.JSONDecodeError):
            reason = f"{error.msg} at column {error.colno}"
        elif isinstance(error, RecursionError):
            reason = "it is nested too deep"
        raise InputError(
            f"{path} row {number}: not JSON ({reason}); each line must be one JSON object"
        ) from None
    if not isinstance(row, dict):
        raise InputError(
            f"{path} row {number}: a {type(row).__name__}, not an object with fields such as "
            f"{fields}"
        )
    return row


def once(items: list[tuple[str, Any]]) -> dict[str, Any]:
    """Make a JSON object whose field names are unique: of two equal ones the last would win unseen.

    Raises:
        ValueError: one is not.
    """
    fields = dict(items)
    if len(fields) != len(items):
        counts = Counter(name for name, _ in items)
        twice = next(name for name, count in counts.items() if count > 1)
        raise ValueError(f"the field '{twice[:60]}' is there twice")
    return fields


def question_and_answer(where: str, row: dict[str, Any], columns: Columns) -> tuple[str, str]:
    """Return the two texts of a row, from its columns or from chat `messages`.

    Raises:
        InputError: a field is missing, of the wrong type, empty or too long.
    """
    if "messages" in row and columns.question not in row:
        return _from_messages(where, row["messages"])
    return (
        checked_text(where, row, columns.question),
        checked_text(where, row, columns.answer),
    )


def _from_messages(where: str, messages: Any) -> tuple[str, str]:
    """Return question and answer of chat messages; system turns go above the question."""
    turns = messages if isinstance(messages, list) else []
    roles = [t.get("role") if isinstance(t, dict) else f"a {type(t).__name__}" for t in turns]
    if roles[-2:] != ["user", "assistant"] or any(role != "system" for role in roles[:-2]):
        raise InputError(
            f"{where}: field 'messages' must hold one user turn and then one assistant turn, "
            "with nothing but system turns before them, "
            f"found roles {str(roles)[:200] if roles else type(messages).__name__}"
        )
    system = "\n\n".join(
        sound_text(where, "content of a system turn", turn.get("content", ""))
        for turn in turns[:-2]
    )
    question = checked_text(where, turns[-2], "content")
    asked = f"{system}\n\n{question}" if system else question
    return sound_text(where, "messages", asked), checked_text(where, turns[-1], "content")


def checked_id(where: str, value: Any) -> str | None:
    """Return the optional id of a row, as text.

    Raises:
        InputError: it is neither text nor a number, or cannot be used as one.
    """
    plain = isinstance(value, str | int) and not isinstance(value, bool)
    if value is not None and not plain and not (isinstance(value, float) and isfinite(value)):
        shown = value if isinstance(value, float) else f"a {type(value).__name__}"
        raise InputError(f"{where}: field 'id' is {shown}; write it as text, or leave it out")
    if value is None:
        return None
    if value == "":
        raise InputError(f"{where}: field 'id' is empty; fill it, or leave it out")
    return sound_text(where, "id", str(value), MAX_ID)


def checked_expected(where: str, row: dict[str, Any]) -> tuple[str, ...]:
    """Return the optional short strings that a right answer contains.

    Raises:
        InputError: `expected` is no list of strings that can be looked for.
    """
    expected = () if row.get("expected") in (None, "") else row["expected"]
    if not isinstance(expected, list | tuple) or not all(isinstance(e, str) for e in expected):
        raise InputError(f"{where}: field 'expected' must be a list of strings")
    if not all(e.strip() for e in expected):
        raise InputError(f"{where}: field 'expected' holds an empty string; remove it")
    return tuple(sound_text(where, "expected", e) for e in expected)


def checked_text(where: str, row: dict[str, Any], field: str) -> str:
    """Return a non-empty string field of a row, stripped.

    Raises:
        InputError: the field is missing, empty or no sound text.
    """
    if field not in row:
        raise InputError(
            f"{where}: field '{field}' is missing (has {str(sorted(row))[:200]}); add it, or name "
            "your own column under domain.data.columns (--set domain.data.columns.answer=NAME)"
        )
    value = sound_text(where, field, row[field]).strip()
    if not any(is_visible(character) for character in value):
        raise InputError(f"{where}: field '{field}' is empty; fill it or remove the row")
    return value


def is_visible(character: str) -> bool:
    """Return whether a character shows; blanks, zero-width signs and empty Braille do not."""
    return character.isprintable() and not character.isspace() and character != "\u2800"


def sound_text(where: str, field: str, value: Any, longest: int = MAX_TEXT) -> str:
    """Return a string that can be encoded, stored and read by a model, as it is.

    Raises:
        InputError: it is no string, is too long, or holds what is no character.
    """
    if isinstance(value, Undecoded):
        raise InputError(
            f"{where}: field '{field}' is {value!r}, not a string; name a column of text under "
            "domain.data.columns, or write the text out"
        )
    if not isinstance(value, str):
        raise InputError(f"{where}: field '{field}' is a {type(value).__name__}, not a string")
    if len(value) > longest:
        raise InputError(
            f"{where}: field '{field}' has {len(value):,} characters, over {longest:,}; split it"
        )
    if "\0" in value:
        raise InputError(f"{where}: field '{field}' holds a NUL character; clean the file")
    if any("\ud800" <= character <= "\udfff" for character in value):
        raise InputError(f"{where}: field '{field}' holds half of a character; clean the file")
    return value
