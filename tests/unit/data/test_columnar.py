"""Arrow and Parquet files that open what they should not, or hold far more than they take."""

from __future__ import annotations

import json
import re
import resource
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from datasets import Features, Image, List, Value

from raft_core.data.columnar import UNDECODED
from raft_core.data.parquet_files import _leaves
from raft_core.data.sources import Columns, DataSource, question_and_answer, read_rows
from raft_core.errors import InputError
from tests.unit.data.test_hub_datasets import COMMIT, hub

__all__ = ["hub"]
NAMED = ("question", "answer", "messages", "extra")
MEBIBYTE = 2**20


@pytest.fixture
def asked() -> Iterator[tuple[str, list[str]]]:
    """The address of a server, and the paths that it was asked for."""
    paths: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            paths.append(self.path)
            self.send_error(404)

        do_HEAD = do_GET

        def log_message(self, *_: Any) -> None: ...

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", paths
    server.shutdown()
    server.server_close()


def opening(path: str) -> Any:
    """A dataset whose columns name a file: an image, one in a list, one in an object."""
    from datasets import Dataset

    cell = {"bytes": None, "path": path}
    row = {
        "question": "Why?",
        "answer": "So.",
        "picture": cell,
        "pictures": [cell],
        "deep": {"picture": cell},
    }
    features = opened_by({"bytes": Value("binary"), "path": Value("string")})
    return Dataset.from_dict({name: [value] for name, value in row.items()}, features=features)


def opened_by(picture: Any) -> Any:
    """What the columns are, where a picture is this."""
    return Features(
        {
            "question": Value("string"),
            "answer": Value("string"),
            "picture": picture,
            "pictures": List(picture),
            "deep": {"picture": picture},
        }
    )


def saved(dataset: Any, folder: Path) -> str:
    """A folder as `datasets` makes it, but that it would have opened the files already."""
    dataset.save_to_disk(str(folder / "saved"))
    about = folder / "saved" / "dataset_info.json"
    described = json.loads(about.read_text()) | {"features": opened_by(Image()).to_dict()}
    about.write_text(json.dumps(described))
    return str(folder / "saved")


def as_parquet(dataset: Any, folder: Path) -> str:
    import pyarrow.parquet as parquet

    schema = opened_by(Image()).arrow_schema
    parquet.write_table(dataset.data.table.cast(schema), folder / "d.parquet")
    return str(folder / "d.parquet")


@pytest.mark.parametrize("write", [saved, as_parquet])
@pytest.mark.parametrize("scheme", ["http", "path", "file"])
def test_files_that_columns_name_are_not_opened(
    write: Callable[[Any, Path], str],
    scheme: str,
    asked: tuple[str, list[str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    address, paths = asked
    secret = tmp_path / "secret.png"
    secret.write_text("no picture")
    place = {"http": f"{address}/x.png", "path": str(secret), "file": f"file://{secret}"}[scheme]
    source = DataSource(path=write(opening(place), tmp_path))
    monkeypatch.setattr("PIL.Image.open", lambda *_: pytest.fail("a picture was opened"))
    ((where, row),) = read_rows(source, NAMED)
    assert question_and_answer(where, row, source.columns) == ("Why?", "So.")
    assert row["picture"] is None
    assert paths == []


@pytest.mark.parametrize("column", ["picture", "pictures", "deep"])
def test_named_column_of_files_is_one_error(
    column: str, asked: tuple[str, list[str]], tmp_path: Path
) -> None:
    columns = Columns(question=column)
    source = DataSource(path=saved(opening(f"{asked[0]}/x.png"), tmp_path), columns=columns)
    with pytest.raises(InputError, match=rf"row 1: field '{column}' is an image or another file"):
        [question_and_answer(w, r, columns) for w, r in read_rows(source, columns.pair)]
    assert asked[1] == []


def test_hub_dataset_whose_columns_name_addresses_fetches_nothing(
    hub: str, asked: tuple[str, list[str]], tmp_path: Path
) -> None:
    folder = tmp_path / "datasets--org--general" / "snapshots" / COMMIT
    (folder / "README.md").write_text(
        "---\ndataset_info:\n  features:\n"
        "  - {name: q, dtype: string}\n  - {name: a, dtype: string}\n"
        "  - {name: picture, dtype: image}\n---\n"
    )
    row = {"q": "Why?", "a": "So.", "picture": f"{asked[0]}/x.png"}
    for file in ("train.jsonl", "test.jsonl", "hard.jsonl"):
        (folder / file).write_text(json.dumps(row) + "\n")
    found = [row for _, row in read_rows(DataSource(path=hub, split="train"), ("q", "a"))]
    assert found[0]["q"] == "Why?"
    named = [row for _, row in read_rows(DataSource(path=hub, split="train"), ("picture",))]
    assert named[0]["picture"] is UNDECODED
    assert asked[1] == []


@pytest.mark.parametrize("name", ["a.parquet", "b.jsonl.gz"])
def test_hub_dataset_of_parquet_and_of_compressed_rows_is_read(
    hub: str, tmp_path: Path, name: str
) -> None:
    written(only_file(hub, tmp_path, name), [{"q": "Why?", "a": "So."}])
    found = [row for _, row in read_rows(DataSource(path=hub, split="train"), ("q",))]
    assert found == [{"q": "Why?", "a": None}]


@pytest.mark.parametrize(
    ("split", "kept"), [("train", 10), ("train[:30%]", 3), ("train[2:4]+train[9:]", 3)]
)
def test_hub_dataset_of_parquet_part_of_a_split_is_read(
    hub: str, tmp_path: Path, split: str, kept: int
) -> None:
    rows = [{"q": str(n), "a": "So."} for n in range(10)]
    written(only_file(hub, tmp_path, "a.parquet"), rows)
    found = list(read_rows(DataSource(path=hub, split=split), ("q",)))
    assert len(found) == kept
    assert found[-1][1]["q"] == ("2" if kept == 3 and "%" in split else "9")


def test_hub_dataset_of_parquet_split_that_is_not_there_is_one_error(
    hub: str, tmp_path: Path
) -> None:
    written(only_file(hub, tmp_path, "a.parquet"), [{"q": "Why?", "a": "So."}])
    with pytest.raises(InputError, match=r"not readable as subset 'default', split 'test' \("):
        list(read_rows(DataSource(path=hub, split="test"), ("q",)))


def only_file(hub: str, tmp_path: Path, name: str) -> Path:
    folder = tmp_path / "datasets--org--general" / "snapshots" / COMMIT
    for file in folder.iterdir():
        file.unlink()
    return folder / name


def written(file: Path, rows: list[dict[str, str]]) -> None:
    import gzip

    import pyarrow
    import pyarrow.parquet as parquet

    if file.suffix == ".parquet":
        parquet.write_table(pyarrow.Table.from_pylist(rows), file)
    else:
        file.write_bytes(gzip.compress("".join(json.dumps(row) + "\n" for row in rows).encode()))


def test_hub_dataset_compressed_to_a_thousandth_is_refused(
    hub: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("raft_core.data.columnar.LEAST_BYTES", MEBIBYTE)
    written(only_file(hub, tmp_path, "b.jsonl.gz"), [{"q": "x" * 90_000, "a": "y"}] * 50)
    with pytest.raises(InputError, match=r"bytes that hold over 1,048,576 bytes"):
        list(read_rows(DataSource(path=hub, split="train"), ("q",)))


def test_hub_dataset_of_an_archive_is_refused(hub: str, tmp_path: Path) -> None:
    only_file(hub, tmp_path, "b.jsonl").write_bytes(b"PK\x03\x04 rows")
    with pytest.raises(InputError, match="an archive; use files of JSON"):
        list(read_rows(DataSource(path=hub, split="train"), ("q",)))


@pytest.mark.parametrize(
    "changes",
    [
        {"state.json": {"_data_files": [{"filename": "../other/data-00000-of-00001.arrow"}]}},
        {"dataset_dict.json": {"splits": ["../other"]}},
    ],
)
def test_saved_folder_that_names_a_file_elsewhere_is_refused(
    changes: dict[str, Any], tmp_path: Path
) -> None:
    from datasets import Dataset

    dataset = Dataset.from_list([{"question": "Why?", "answer": "So."}])
    for name in ("saved", "other"):
        dataset.save_to_disk(str(tmp_path / name))
    if "dataset_dict.json" in changes:
        (tmp_path / "saved" / "state.json").unlink()
    for name, value in changes.items():
        (tmp_path / "saved" / name).write_text(json.dumps(value))
    with pytest.raises(InputError, match=r"not a folder saved by datasets .*no name of its own"):
        list(read_rows(DataSource(path=str(tmp_path / "saved")), NAMED))


@pytest.mark.parametrize("stored_once", [False, True])
@pytest.mark.parametrize("compression", ["zstd", None])
def test_saved_folder_whose_batches_are_compressed_is_refused(
    compression: str | None, stored_once: bool, tmp_path: Path
) -> None:
    import pyarrow as pa
    from datasets import Dataset

    rows = [{"question": "x" * 10_000, "answer": "So."}] * 5
    Dataset.from_list(rows).save_to_disk(str(tmp_path / "saved"))
    table = pa.Table.from_pylist(rows)
    if stored_once:
        table = table.set_column(0, "question", table["question"].dictionary_encode())
    file = tmp_path / "saved" / "data-00000-of-00001.arrow"
    options = pa.ipc.IpcWriteOptions(compression=compression)
    with pa.ipc.new_stream(str(file), table.schema, options=options) as writer:
        writer.write_table(table)
    source = DataSource(path=str(tmp_path / "saved"))
    if compression is None:
        assert [row for _, row in read_rows(source, NAMED)] == rows
        return
    with pytest.raises(InputError, match=r"its batches are compressed"):
        list(read_rows(source, NAMED))


def of_type(kind: str) -> Any:
    """A column of 512 values of which each is a megabyte, stored once."""
    import pyarrow as pa

    rows, numbers = 512, list(range(200_000))
    zeros = pa.array([0] * rows, pa.int32())
    if kind == "union":
        types = pa.array([0] * rows, pa.int8())
        return pa.UnionArray.from_dense(types, zeros, [pa.array(["x" * 2_000_000])])
    if kind == "runs":
        ends = pa.array([rows], pa.int32())
        return pa.RunEndEncodedArray.from_arrays(ends, pa.array(["y" * 2_000_000]))
    if kind == "views":
        sizes = pa.array([len(numbers)] * rows, pa.int32())
        return pa.ListViewArray.from_arrays(zeros, sizes, pa.array(numbers))
    return pa.DictionaryArray.from_arrays(zeros, pa.array([numbers]))


def arrow_folder(
    folder: Path, name: str, column: Any, times: int = 1, **options: Any
) -> DataSource:
    """A folder as `datasets` saves it, of one column."""
    import pyarrow as pa

    batch = pa.record_batch([column], names=[name])
    how = pa.ipc.IpcWriteOptions(**options)
    with pa.ipc.new_stream(str(folder / "x.arrow"), batch.schema, options=how) as writer:
        writer.write_batch(batch)
    files = [{"filename": "x.arrow"}] * times
    (folder / "state.json").write_text(json.dumps({"_data_files": files}))
    (folder / "dataset_info.json").write_text("{}")
    return DataSource(path=str(folder))


@pytest.mark.parametrize("kind", ["union", "runs", "views", "dictionary of lists"])
def test_saved_column_of_a_type_without_a_known_size_is_one_error(
    kind: str, tmp_path: Path
) -> None:
    source = arrow_folder(tmp_path, "question", of_type(kind))
    with pytest.raises(InputError, match=r"the column 'question' is stored as .*not read"):
        next(iter(read_rows(source, NAMED)))


def test_saved_folder_without_a_named_column_is_not_unpacked(tmp_path: Path) -> None:
    import pyarrow as pa

    source = arrow_folder(tmp_path, "other", pa.array([b"\0" * MEBIBYTE]), compression="zstd")
    with pytest.raises(InputError, match=r"its batches are compressed"):
        list(read_rows(source, NAMED))
    source = arrow_folder(tmp_path, "other", pa.array(["a", "b"]))
    assert [row for _, row in read_rows(source, NAMED)] == [{"other": None}] * 2


def test_saved_folder_that_names_a_file_twice_is_refused(tmp_path: Path) -> None:
    import pyarrow as pa

    source = arrow_folder(tmp_path, "question", pa.array(["q"]), times=2)
    with pytest.raises(InputError, match=r"names a file twice"):
        list(read_rows(source, NAMED))


def test_parquet_that_says_it_holds_less_than_it_takes_is_refused(
    tmp_path: Path,
) -> None:
    chunk = SimpleNamespace(
        total_compressed_size=20_000, total_uncompressed_size=1_000, num_values=1, encodings=()
    )
    group = SimpleNamespace(column=lambda _: chunk)
    file = SimpleNamespace(
        schema=[SimpleNamespace(path="question")],
        schema_arrow=SimpleNamespace(names=["question"]),
        metadata=SimpleNamespace(num_row_groups=1, row_group=lambda _: group),
    )
    (tmp_path / "x").write_bytes(b"")
    with pytest.raises(ValueError, match="less than they take compressed"):
        _leaves(tmp_path / "x", file, NAMED)


def test_columns_of_json_are_the_values_that_they_stand_for(tmp_path: Path) -> None:
    from datasets import Dataset

    mixed = [{"extra": [{"a": 1}, {"b": "x"}]}, {"extra": [{"a": "y"}, {"b": [1]}]}]
    dataset = Dataset.from_dict(
        {"extra": [row["extra"] for row in mixed]}, on_mixed_types="use_json"
    )
    dataset.save_to_disk(str(tmp_path / "saved"))
    found = [row for _, row in read_rows(DataSource(path=str(tmp_path / "saved")), NAMED)]
    assert found == mixed


def repeated(size: int, rows: int) -> Any:
    """Columns in which one text of this size stands once, and is meant so many times."""
    import pyarrow as pa

    ones = pa.array([0] * rows, pa.int32())
    texts = [pa.array(["x" * size]), pa.array(["a"])]
    columns = [pa.DictionaryArray.from_arrays(ones, text) for text in texts]
    return pa.table(dict(zip(("question", "answer"), columns, strict=True)))


GROWING: dict[str, tuple[dict[str, Any], int, int, str]] = {
    "one huge text": ({}, 4_000_000, 1_100, r"field 'question' has 4,000,000 bytes, over 400,000"),
    "a text many times": ({}, 50_000, 90_000, r"bytes that hold over 268,435,456 bytes of rows"),
    "texts that begin alike": (
        {
            "use_dictionary": False,
            "column_encoding": {"question": "DELTA_BYTE_ARRAY", "answer": "PLAIN"},
        },
        90_000,
        4_000,
        r"bytes that hold over 268,435,456 bytes of rows",
    ),
    "plain texts": ({"use_dictionary": False}, 90_000, 4_000, r"hold over 268,435,456 bytes"),
}
READS = """
import resource, sys
import pyarrow.parquet
from raft_core.data.sources import DataSource, read_rows
from raft_core.errors import InputError
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    kept = [row for _, row in read_rows(DataSource(path=sys.argv[1]), ("question", "answer"))]
except InputError as error:
    print(error)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.parametrize("name", GROWING)
def test_parquet_that_holds_far_more_than_it_takes_is_refused_in_bounded_memory(
    name: str, tmp_path: Path
) -> None:
    import pyarrow.parquet as parquet

    options, size, rows, message = GROWING[name]
    table = repeated(size, rows)
    if options:  # as texts, not as what they are stored as
        import pyarrow as pa

        table = pa.table({"question": ["x" * size] * rows, "answer": ["a"] * rows})
    parquet.write_table(table, tmp_path / "d.parquet", compression="zstd", **options)
    assert (tmp_path / "d.parquet").stat().st_size < 120_000
    told, grown = read_in_a_process(tmp_path / "d.parquet")
    assert re.search(message, told)
    assert grown < 600 * MEBIBYTE


def read_in_a_process(file: Path) -> tuple[str, int]:
    """What reading it printed, and by how many bytes it grew."""

    def bounded() -> None:
        resource.setrlimit(resource.RLIMIT_DATA, (3 * 2**30, 3 * 2**30))

    done = subprocess.run(
        [sys.executable, "-c", READS, str(file)],
        capture_output=True,
        text=True,
        timeout=120,
        preexec_fn=bounded,
    )
    told, _, grown = done.stdout.strip().rpartition("\n")
    return told, int(grown) * 1024


def test_jsonl_line_without_end_is_refused_before_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("raft_core.data.sources.MAX_LINE", 1_000)
    (tmp_path / "d.jsonl").write_text('{"question": "a"}\n' + " " * 5_000)
    with pytest.raises(InputError, match=r"d\.jsonl row 2: over 1,000 characters"):
        list(read_rows(DataSource(path=str(tmp_path / "d.jsonl")), NAMED))


def test_parquet_of_ordinary_rows_is_read_whole_in_order(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as parquet

    chat = [{"role": "user", "content": "é"}, {"role": "assistant", "content": None}]
    # Texts of which too many differ to be stored once each.
    chat[0]["content"] = "".join(map(str, range(300)))
    rows = [
        {
            "question": f"q{n % 7}",
            "answer": "a" * n,
            "messages": [{"role": f"{n}" * 300, "content": None}, *chat],
            "extra": {"x.y": [n, None]},
        }
        for n in range(1_500)
    ]
    parquet.write_table(pa.Table.from_pylist(rows), tmp_path / "d.parquet", row_group_size=900)
    found = list(read_rows(DataSource(path=str(tmp_path / "d.parquet")), NAMED))
    assert [row for _, row in found] == rows
    assert found[-1][0] == f"{tmp_path}/d.parquet row 1500"
