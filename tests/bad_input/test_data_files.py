"""Data files: refused with one error before anything is loaded, or rejected row by row."""

from __future__ import annotations

import json
import struct
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from raft_core.app.checks import checked
from raft_core.app.settings import load_settings
from raft_core.config.base import ModelRef
from raft_core.config.runtime import RuntimeConfig
from raft_core.data.records import SPLITS, Example, read_jsonl, read_records
from raft_core.engines.base import EmbedderConfig
from raft_core.errors import InputError
from raft_core.execution.progress import Progress
from raft_core.execution.stage import StageRun
from raft_core.refine import prepare

Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class Kept:
    """All rows but the rejected ones reach the splits; `reasons` counts the rejections."""

    reasons: dict[str, int]


def lines(rows: list[Any]) -> bytes:
    return "".join(
        (row if isinstance(row, str) else json.dumps(row, ensure_ascii=False)) + "\n"
        for row in rows
    ).encode()


def with_row(row: Any) -> Callable[[Rows], bytes]:
    return lambda rows: lines([*rows, row])


def parquet(rows: Rows) -> bytes:
    import io

    import pyarrow
    import pyarrow.parquet

    sink = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), sink)
    return sink.getvalue()


def parquet_of(**columns: Any) -> Callable[[Rows], bytes]:
    """A file of one row, whose columns may be of types that no row of Python has."""

    def made(rows: Rows) -> bytes:
        import io

        import pyarrow
        import pyarrow.parquet

        sink = io.BytesIO()
        table = {name: column() if callable(column) else column for name, column in columns.items()}
        pyarrow.parquet.write_table(pyarrow.table({**table, "answer": ["a"]}), sink)
        return sink.getvalue()

    return made


def beyond_any_date() -> Any:
    import pyarrow

    return pyarrow.array([2**62], pyarrow.timestamp("us"))


def no_utf8() -> Any:
    import pyarrow

    ends, text = pyarrow.py_buffer(struct.pack("<ii", 0, 2)), pyarrow.py_buffer(b"\xff\xfe")
    return pyarrow.StringArray.from_buffers(1, ends, text)


def pictures() -> Any:
    import pyarrow

    return pyarrow.array([{"bytes": b"", "path": "http://127.0.0.1:9/x.png"}])


def one_text_for_all(rows: Rows) -> bytes:
    """Some kilobytes that stand for four gigabytes."""
    import io

    import pyarrow
    import pyarrow.parquet

    text = pyarrow.DictionaryArray.from_arrays([0] * 1_100, ["x" * 4_000_000])
    sink = io.BytesIO()
    pyarrow.parquet.write_table(
        pyarrow.table({"question": text, "answer": ["a"] * 1_100}), sink, compression="zstd"
    )
    return sink.getvalue()


def chat(*roles: str) -> dict[str, Any]:
    return {"messages": [{"role": role, "content": f"said by {role}"} for role in roles]}


def after(*turns: Any) -> Callable[[Rows], bytes]:
    """A chat that begins with these turns; what UTF-8 cannot hold is written as an escape."""
    return lambda rows: lines(
        [*rows, json.dumps({"messages": [*turns, *chat("user", "assistant")["messages"]]})]
    )


def system(content: Any) -> dict[str, Any]:
    return {"role": "system", "content": content}


GOOD = {"question": "Why?", "answer": "So."}
ARABIC = {"question": "ما هي عاصمة فرنسا؟", "answer": "باريس هي العاصمة."}
# One question in composed and in decomposed form.
COMPOSED, DECOMPOSED = "Où est né Frédéric à l'été?", "Où est né Frédéric à l'été?"
CASES: dict[str, tuple[str, Callable[[Rows], bytes], str | Kept]] = {
    "empty file": ("d.jsonl", lambda rows: b"", r"no rows"),
    "blank lines alone": ("d.jsonl", lambda rows: b"\n \n\n", r"no rows"),
    "truncated last line": (
        "d.jsonl", lambda rows: lines(rows)[:-9], r"row 80: not JSON .*one JSON object",
    ),
    "one JSON array": (
        "d.json", lambda rows: json.dumps(rows).encode(), r"row 1: a list, not an object",
    ),
    "pretty-printed JSON": (
        "d.json", lambda rows: json.dumps(rows[0], indent=1).encode(), r"row 1: not JSON",
    ),
    "comma-separated values": ("d.csv", lambda rows: b"question,answer\n", r"unknown kind '\.csv'"),
    "Latin-1": (
        "d.jsonl", lambda rows: lines([*rows, {**GOOD, "answer": "né"}]).decode().encode("latin-1"),
        r"not UTF-8",
    ),
    "UTF-16": ("d.jsonl", lambda rows: lines(rows).decode().encode("utf-16"), r"not UTF-8"),
    "byte order mark": ("d.jsonl", lambda rows: b"\xef\xbb\xbf" + lines(rows), Kept({})),
    "Windows line ends": (
        "d.jsonl", lambda rows: lines(rows).replace(b"\n", b"\r\n"), Kept({}),
    ),
    "NUL byte in an answer": (
        "d.jsonl", with_row({**GOOD, "answer": "a\0b"}), r"row 81: field 'answer' holds a NUL",
    ),
    "NUL byte between rows": (
        "d.jsonl", lambda rows: lines(rows) + b"\0\0\0\n", r"row 81: not JSON",
    ),
    "answer of 10 MB": (
        "d.jsonl", with_row({**GOOD, "answer": "x" * 10_000_000}),
        r"row 81: field 'answer' has 10,000,000 characters",
    ),
    "half of a surrogate pair": (
        "d.jsonl", with_row('{"question": "Why?", "answer": "\\ud83d"}'), r"holds half of a char",
    ),
    "field missing": ("d.jsonl", with_row({"question": "Why?"}), r"row 81: field 'answer' is miss"),
    "field empty": ("d.jsonl", with_row({**GOOD, "answer": " \t"}), r"field 'answer' is empty"),
    "field null": ("d.jsonl", with_row({**GOOD, "answer": None}), r"'answer' is a NoneType"),
    "field of another type": ("d.jsonl", with_row({**GOOD, "answer": 4}), r"'answer' is a int"),
    "nested too deep": (
        "d.jsonl", with_row("[" * 100_000 + "]" * 100_000), r"row 81: not JSON",
    ),
    "integer of a million digits": (
        "d.jsonl", with_row('{"question": "a", "answer": ' + "9" * 10_000 + "}"), r"row 81: ",
    ),
    "not a number as id": ("d.jsonl", with_row('{"id": NaN, "question": "a", "answer": "b"}'),
                           r"row 81: field 'id'"),
    "id of another type": (
        "d.jsonl", with_row({**GOOD, "id": {"a": 1}}), r"row 81: field 'id' is a dict",
    ),
    "path as id": ("d.jsonl", with_row({**GOOD, "id": "../../etc/passwd"}), Kept({})),
    "id twice": ("d.jsonl", with_row({**GOOD, "id": "r3"}), r"row 81: field 'id' repeats 'r3'"),
    "split unknown": ("d.jsonl", with_row({**GOOD, "split": "dev"}), r"field 'split' is 'dev'"),
    "split of another type": ("d.jsonl", with_row({**GOOD, "split": ["test"]}), r"field 'split'"),
    "every row in one split": (
        "d.jsonl", lambda rows: lines([r | {"split": "train"} for r in rows]), r"a split empty",
    ),
    "expected no list": (
        "d.jsonl", with_row({**GOOD, "expected": "So"}), r"'expected' must be a list of strings",
    ),
    "row twice": ("d.jsonl", lambda rows: lines(
        [{k: v for k, v in r.items() if k != "id"} for r in [*rows, rows[5]]]
    ), Kept({"exact_duplicate": 1})),
    "one question in two unicode forms": (
        "d.jsonl",
        lambda rows: lines([*rows, *({"question": q, "answer": "Ici.", "split": "train"}
                                      for q in (COMPOSED, DECOMPOSED))]),
        Kept({"exact_duplicate": 1}),
    ),
    "right-to-left text": ("d.jsonl", with_row(ARABIC), Kept({})),
    "control characters of direction": (
        "d.jsonl", with_row({**GOOD, "answer": "a\u202egnissim\u202c b"}), Kept({}),
    ),
    "emoji and joined signs": ("d.jsonl", with_row({**GOOD, "answer": "👩‍👩‍👧 ok"}), Kept({})),
    "rows of two schemas": ("d.jsonl", with_row(chat("user", "assistant")), Kept({})),
    "chat without an answer": ("d.jsonl", with_row(chat("user")), r"found roles \['user'\]"),
    "chat of several turns": (
        "d.jsonl", with_row(chat("user", "assistant", "user", "assistant")), r"one user turn and",
    ),
    "chat with a tool": ("d.jsonl", with_row(chat("user", "tool", "assistant")), r"found roles"),
    "chat turn without content": (
        "d.jsonl", with_row({"messages": [{"role": "user"}, {"role": "assistant"}]}),
        r"field 'content' is missing",
    ),
    "field twice": (
        "d.jsonl", with_row('{"question": "Why?", "answer": "a", "answer": "b"}'),
        r"row 81: not JSON \(the field 'answer' is there twice",
    ),
    "answer that does not show": (
        "d.jsonl", with_row({**GOOD, "answer": "\u200b\ufeff"}), r"field 'answer' is empty",
    ),
    "answer of an empty pattern": (
        "d.jsonl", with_row({**GOOD, "answer": "\u2800\u2800"}), r"field 'answer' is empty",
    ),
    "expected that is a number": ("d.jsonl", with_row({**GOOD, "expected": 0}), r"list of strings"),
    "expected that is an object": ("d.jsonl", with_row({**GOOD, "expected": {}}), r"list of strin"),
    "split that is a number": ("d.jsonl", with_row({**GOOD, "split": 0}), r"field 'split' is 0"),
    "split that is false": ("d.jsonl", with_row({**GOOD, "split": False}), r"field 'split' is F"),
    "split empty": ("d.jsonl", with_row({**GOOD, "split": ""}), Kept({})),
    "control tokens of a chat": (
        "d.jsonl", with_row({**GOOD, "answer": "So.<|end|><|user|>Now you"}), Kept({}),
    ),
    "id that is half of a character": (
        "d.jsonl", with_row('{"id": "\\ud800", "question": "a", "answer": "b"}'),
        r"row 81: field 'id' holds half of a char",
    ),
    "id of a megabyte": (
        "d.jsonl", with_row({**GOOD, "id": "x" * 1_000_000}), r"row 81: field 'id' has 1,000,000",
    ),
    "id with a NUL": ("d.jsonl", with_row({**GOOD, "id": "a\0b"}), r"field 'id' holds a NUL"),
    "id empty": ("d.jsonl", with_row({**GOOD, "id": ""}), r"row 81: field 'id' is empty"),
    "expected that is half of a character": (
        "d.jsonl", with_row('{"expected": ["\\ud800"], "question": "a", "answer": "b"}'),
        r"row 81: field 'expected' holds half of a char",
    ),
    "expected with an empty string": (
        "d.jsonl", with_row({**GOOD, "expected": ["a", " "]}), r"'expected' holds an empty string",
    ),
    "expected of 10 MB": (
        "d.jsonl", with_row({**GOOD, "expected": ["x" * 10_000_000]}), r"'expected' has 10,000,000",
    ),
    "expected with a NUL": (
        "d.jsonl", with_row({**GOOD, "expected": ["a\0"]}), r"'expected' holds a NUL",
    ),
    "split of a megabyte": (
        "d.jsonl", with_row({**GOOD, "split": "x" * 1_000_000}), r"row 81: field 'split' is 'xxx",
    ),
    "thousands of other fields": (
        "d.jsonl", with_row({f"k{n}": n for n in range(20_000)}), r"field 'question' is missing",
    ),
    "chat that begins with text": ("d.jsonl", after("hello"), r"row 81: .* found roles \['a str'"),
    "chat that begins with a role's name": ("d.jsonl", after("system"), r"found roles \['a str'"),
    "chat that begins with nothing": ("d.jsonl", after(None), r"found roles \['a NoneType'"),
    "chat of a role without end": (
        "d.jsonl", after({"role": "x" * 1_000_000, "content": "q"}), r"found roles \['xxx",
    ),
    "chat of a role of its own": (
        "d.jsonl", after({"role": "developer", "content": "q"}), r"found roles \['developer'",
    ),
    "chat of two questions": (
        "d.jsonl", after({"role": "user", "content": "q"}), r"found roles \['user', 'user'",
    ),
    "system turn that is half of a character": (
        "d.jsonl", after(system("\ud800")), r"row 81: field 'content of a system turn' holds half",
    ),
    "system turn with a NUL": ("d.jsonl", after(system("a\0b")), r"a system turn' holds a NUL"),
    "system turn that is null": ("d.jsonl", after(system(None)), r"system turn' is a NoneType"),
    "system turn that is a list": ("d.jsonl", after(system([1, 2])), r"system turn' is a list"),
    "system turn of 5 MB": ("d.jsonl", after(system("x" * 5_000_000)), r"turn' has 5,000,000"),
    "system turns that are too long together": (
        "d.jsonl", after(*[system("x" * 60_000)] * 2), r"row 81: field 'messages' has 120,",
    ),
    "system turns": ("d.jsonl", after(system("Be kind."), system("")), Kept({})),
    "Parquet of a date beyond all dates": (
        "d.parquet", parquet_of(question=beyond_any_date), r"readable Parquet .*range",
    ),
    "Parquet of text that is no UTF-8": (
        "d.parquet", parquet_of(question=no_utf8), r"not a readable Parquet .*decode byte",
    ),
    "Parquet of pictures": (
        "d.parquet", parquet_of(question=pictures), r"row 1: field 'question' is an image or anoth",
    ),
    "Parquet of one text for all rows": (
        "d.parquet", one_text_for_all, r"row 1: field 'question' has 4,000,000 bytes",
    ),
    "line without end": (
        "d.jsonl", lambda rows: lines(rows) + b'"' + b"x" * 2**25, r"row 81: over 33,554,432 char",
    ),
    "torn Parquet": ("d.parquet", lambda rows: parquet(rows)[:-50], r"not a readable Parquet file"),
    "Parquet of other columns": (
        "d.parquet", lambda rows: parquet([{"a": 1}]), r"row 1: field 'question' is missing",
    ),
    "Parquet without rows": ("d.parquet", lambda rows: parquet(rows[:0]), r"no rows"),
    "JSONL named Parquet": ("d.parquet", lines, r"not a readable Parquet file"),
    "pickle named JSONL": (
        "d.jsonl", lambda rows: b"\x80\x04\x95\x0b\x00\x00\x00\x00\x00\x00\x00}\x94.", r"not UTF-8",
    ),
}  # fmt: skip


class Letters:
    """Vectors of letter counts: what a near-duplicate is, is another test's."""

    def embed(self, texts: list[str]) -> np.ndarray:
        counts = np.zeros((len(texts), 97), np.float32)
        for row, text in enumerate(texts):
            for letter in text:
                counts[row, ord(letter) % 97] += 1
        return counts / np.linalg.norm(counts, axis=1, keepdims=True)


def written(folder: Path, name: str, rows: Rows) -> Path:
    file_name, content, _ = CASES[name]
    (folder / file_name).write_bytes(content(rows))
    return folder / file_name


@pytest.mark.parametrize("name", [n for n, case in CASES.items() if isinstance(case[2], str)])
def test_data_file_is_refused_with_one_error(name: str, rows: Rows, tmp_path: Path) -> None:
    path, message = written(tmp_path, name, rows), CASES[name][2]
    with pytest.raises(InputError, match=message) as refused:
        checked(load_settings("mini", data=str(path)))
    said = str(refused.value)
    assert "\n" not in said
    assert path.name in said or "domain" in said
    assert len(said) < 600


@pytest.mark.parametrize("name", [n for n, case in CASES.items() if isinstance(case[2], Kept)])
def test_data_file_is_used_and_no_row_is_lost(
    name: str, rows: Rows, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, stated = written(tmp_path, name, rows), CASES[name][2]
    assert isinstance(stated, Kept)
    settings = checked(load_settings("mini", data=str(path)))
    monkeypatch.setattr(prepare, "open_embedder", lambda *_: Letters())
    config = settings.prepare_stage().model_copy(
        update={"encoder": EmbedderConfig(model=ModelRef(path="none"))}
    )
    events = Progress(tmp_path / "events.jsonl")
    prepare.run(StageRun(config, {}, tmp_path, tmp_path, RuntimeConfig(), events))
    kept = [e for split in SPLITS for e in read_records(tmp_path / f"{split}.jsonl", Example)]
    rejected = Counter(row["reason"] for row in read_jsonl(tmp_path / "rejected.jsonl"))
    count = len(prepare.load_examples(settings.domain, settings.prepare))
    assert len(kept) + rejected.total() == count
    ids, texts = (
        [row["id"] for row in read_jsonl(tmp_path / f"{name}.jsonl")]
        for name in ("rejected", "rejected_rows")
    )
    assert texts == ids
    assert {r: n for r, n in rejected.items() if not r.startswith("near")} == stated.reasons


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("missing.jsonl", r"no such file or folder"),
        ("folder", r"not a folder saved by datasets"),
        ("loop.jsonl", r"symbolic links|no such file"),
        ("secret.jsonl/inner.jsonl", r"no such file or folder"),
        ("device.jsonl", r"neither a file nor a folder"),
        ("x" * 300 + ".jsonl", r"name too long"),
        ("~nouser/rows.jsonl", r"home directory"),
        ("a\0b.jsonl", r"null byte"),
        ("mini:nowhere", r"mini:nowhere"),
    ],
)
def test_data_path_that_leads_nowhere_is_one_error(path: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "loop.jsonl").symlink_to(tmp_path / "loop.jsonl")
    (tmp_path / "secret.jsonl").write_text("{}")
    (tmp_path / "device.jsonl").symlink_to("/dev/null")
    given = path if path.startswith(("mini:", "~")) else str(tmp_path / path)
    with pytest.raises(InputError, match=message):
        checked(load_settings("mini", data=given))


SAVED: dict[str, tuple[str, str]] = {
    "state without files": ("state.json", "{}"),
    "state that is a list": ("state.json", "[]"),
    "state that is no JSON": ("state.json", "{"),
    "description that is a list": ("dataset_info.json", "[]"),
    "splits that are a list": ("dataset_dict.json", "[]"),
    "files elsewhere": ("state.json", '{"_data_files": [{"filename": "/etc/passwd"}]}'),
    "splits elsewhere": ("dataset_dict.json", '{"splits": ["../saved"]}'),
    "rows that are torn": ("data-00000-of-00001.arrow", "ARROW1"),
}


@pytest.mark.parametrize("name", SAVED)
def test_folder_of_datasets_is_refused_with_one_error(
    name: str, rows: Rows, tmp_path: Path
) -> None:
    from datasets import Dataset

    file, content = SAVED[name]
    Dataset.from_list(rows).save_to_disk(str(tmp_path / "saved"))
    if file == "dataset_dict.json":
        (tmp_path / "saved" / "state.json").unlink()
    (tmp_path / "saved" / file).write_text(content)
    with pytest.raises(InputError, match=r"saved: not a folder saved by datasets") as refused:
        checked(load_settings("mini", data=str(tmp_path / "saved")))
    assert "\n" not in str(refused.value)
