"""The shared store: what one machine commits another finds, and nothing false comes through."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import fsspec
import pytest

from raft_core.config.runtime import RuntimeConfig
from raft_core.errors import InputError, StageError
from raft_core.store.artifacts import Store
from raft_core.store.remote_artifacts import stays_inside
from raft_core.store.shared import SharedStore, open_store
from tests.artifacts import committed, rows, spec

Machine = Callable[[str], SharedStore]


@pytest.fixture(params=["memory", "file"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return f"{request.param}://{tmp_path}/shared/prefix"


@pytest.fixture
def machine(url: str, tmp_path: Path) -> Machine:
    """Stores of machines by name, each with a folder of its own."""
    return lambda name: SharedStore(tmp_path / name, url)


def altered(url: str, pattern: str, content: bytes) -> None:
    """Replace what the one remote file that the pattern finds holds."""
    fs, root = fsspec.url_to_fs(url)
    (found,) = fs.glob(f"{root}/artifacts/**/{pattern}")
    fs.pipe_file(found, content)


def altered_record(url: str, **changes: Any) -> None:
    fs, root = fsspec.url_to_fs(url)
    (found,) = fs.glob(f"{root}/artifacts/**/record.json")
    fs.pipe_file(found, json.dumps(json.loads(fs.cat_file(found)) | changes).encode())


def test_find_what_another_machine_committed_is_brought_here(machine: Machine) -> None:
    assert machine("one").find(spec()) is None
    made = committed(machine("one"), spec())
    found = machine("two").find(spec())
    assert found is not None
    assert rows(found) == "row"
    assert found.folder.is_relative_to(machine("two").root)
    assert (found.folder / "record.json").read_text() == (made.folder / "record.json").read_text()
    assert not list((machine("two").root / "work").iterdir())


def test_find_artifact_without_files_is_brought_here(machine: Machine) -> None:
    one = machine("one")
    one.commit(spec(), one.work_folder(spec()), 1.0)
    assert machine("two").find(spec()) is not None


def test_find_artifact_damaged_here_is_brought_again(machine: Machine) -> None:
    made = committed(machine("one"), spec())
    (made.folder / "sub" / "rows.jsonl").write_text("altered")
    assert rows(machine("one").find(spec())) == "row"


def test_find_artifact_that_is_only_here_is_shared(machine: Machine) -> None:
    committed(Store(machine("one").root), spec())
    assert machine("two").find(spec()) is None
    assert machine("one").find(spec()) is not None
    assert rows(machine("two").find(spec())) == "row"


@pytest.mark.parametrize(
    ("pattern", "content"), [("rows.jsonl", b"rox"), ("record.json", b'{"stage": "prep')]
)
def test_find_damaged_remote_artifact_is_absent_until_it_is_committed_again(
    machine: Machine, url: str, pattern: str, content: bytes
) -> None:
    committed(machine("one"), spec())
    altered(url, pattern, content)
    assert machine("two").find(spec()) is None
    assert not list(machine("two").root.glob("work/*"))
    committed(machine("two"), spec())
    assert rows(machine("three").find(spec())) == "row"


@pytest.mark.parametrize(
    "changes",
    [{"key": "0" * 24}, {"stage": "filter"}, {"identity": {"a": 2}}, {"identity": {"a": "NaN"}}],
)
def test_find_record_of_something_else_is_absent(
    machine: Machine, url: str, changes: dict[str, Any]
) -> None:
    committed(machine("one"), spec())
    altered_record(url, **json.loads(json.dumps(changes).replace('"NaN"', "NaN")))
    assert machine("two").find(spec()) is None


@pytest.mark.parametrize("name", ["../../evil", "/evil", "sub/../../evil", "..\\evil"])
def test_find_record_that_names_a_file_outside_is_refused(
    machine: Machine, url: str, name: str, tmp_path: Path
) -> None:
    committed(machine("one"), spec())
    altered_record(url, files={name: "0" * 64})
    with pytest.raises(StageError, match=rf"prepare/{spec().key} names .*evil.*refused"):
        machine("two").find(spec())
    assert not [path for path in tmp_path.rglob("*evil*")]


@pytest.mark.parametrize(
    "name", ["", ".", "..", "/a", "a/../b", "../a", "a//b", "./a", "a/", "a\\b", "a\0", "a\nb"]
)
def test_stays_inside_anything_but_a_plain_relative_path_does_not(name: str) -> None:
    assert not stays_inside(name)


def test_stays_inside_files_of_artifacts_do_and_the_record_is_none() -> None:
    assert stays_inside("checkpoint/model-00001-of-00002.safetensors")
    assert stays_inside("a..b")
    assert not stays_inside("record.json")


def test_commit_uploads_the_record_last(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    one = machine("one")
    uploaded: list[str] = []
    monkeypatch.setattr(
        one._remote._fs, "put_file", lambda source, target, **_: uploaded.append(Path(target).name)
    )
    committed(one, spec())
    assert uploaded == ["rows.jsonl", "record.json"]


def test_commit_of_two_machines_under_one_key_leaves_a_whole_artifact(machine: Machine) -> None:
    one, two = machine("one"), machine("two")
    committed(one, spec(), "from one")
    committed(two, spec(), "from two")
    assert rows(one.find(spec())) == "from one"
    assert rows(machine("three").find(spec())) == "from two"


def test_commit_that_ends_before_its_record_leaves_the_earlier_artifact(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    committed(machine("one"), spec(), "from one")
    two = machine("two")
    break_off_before_records(monkeypatch, two)
    with pytest.raises(StageError, match=r"upload of .* failed: ConnectionError") as caught:
        committed(two, spec(), "from two")
    assert "hunter2" not in str(caught.value)
    assert rows(machine("three").find(spec())) == "from one"


def test_find_after_an_upload_that_failed_shares_what_was_made(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = machine("one")
    with monkeypatch.context() as broken:
        break_off_before_records(broken, one)
        with pytest.raises(StageError, match="upload"):
            committed(one, spec())
    assert machine("two").find(spec()) is None
    assert rows(one.find(spec())) == "row"
    assert rows(machine("two").find(spec())) == "row"


def break_off_before_records(monkeypatch: pytest.MonkeyPatch, store: SharedStore) -> None:
    """Let the store's uploads of files work, and those of records fail."""
    fs = store._remote._fs
    put_file = fs.put_file

    def put(source: str, target: str, **options: Any) -> None:
        if target.endswith("/record.json"):
            raise ConnectionError(f"no way to {target} with key hunter2")
        put_file(source, target, **options)

    monkeypatch.setattr(fs, "put_file", put)


def test_fetch_from_another_machine_and_of_what_is_nowhere(machine: Machine, url: str) -> None:
    two = machine("two")
    with pytest.raises(StageError, match=rf"missing or damaged in '{two.root}' and .*'{url}'"):
        two.fetch("prepare", spec().key)
    committed(machine("one"), spec())
    assert rows(two.fetch("prepare", spec().key)) == "row"


def test_localised_inputs_of_another_machine_are_brought_here(machine: Machine) -> None:
    made = committed(machine("one"), spec())
    wanted = spec(stage="filter", inputs={"prepare": made})
    here = machine("two").localised(wanted)
    assert rows(here.inputs["prepare"]) == "row"
    assert here.inputs["prepare"].folder.is_relative_to(machine("two").root)
    assert here.key == wanted.key


def test_open_store_default_folder_field_and_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAFT_HOME", raising=False)
    runtime = RuntimeConfig(home=str(tmp_path))
    assert open_store(runtime).root == tmp_path / "store"
    given = runtime.model_copy(update={"store": str(tmp_path / "nfs")})
    assert open_store(given).root == tmp_path / "nfs"
    assert type(open_store(given)) is Store
    monkeypatch.setenv("RAFT_STORE", f"memory://{tmp_path}")
    shared = open_store(given)
    assert isinstance(shared, SharedStore)
    assert shared.root == tmp_path / "store"
    monkeypatch.setenv("RAFT_STORE", "")
    assert open_store(given).root == tmp_path / "nfs"


@pytest.mark.parametrize(
    ("store", "message"),
    [
        ("nonsense://bucket", "store 'nonsense://bucket': Protocol not known"),
        ("s3://me:hunter2@bucket/prefix", "holds a password; give credentials in the environment"),
    ],
)
def test_open_store_address_that_cannot_be_used_is_one_clear_error(
    store: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAFT_STORE", store)
    with pytest.raises(InputError, match=message) as caught:
        open_store(RuntimeConfig(home=str(tmp_path)))
    assert "hunter2" not in str(caught.value)


def test_open_store_that_cannot_be_written_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(InputError, match=r"cannot be read and written: .* \(\w+Error\); check"):
        open_store(RuntimeConfig(home=str(tmp_path), store=f"file://{tmp_path}/file/below"))


def test_open_store_of_a_folder_loads_no_remote_file_system(tmp_path: Path) -> None:
    code = (
        "import sys; from raft_core.config.runtime import RuntimeConfig\n"
        "from raft_core.store.shared import open_store\n"
        "open_store(RuntimeConfig(home=sys.argv[1]))\n"
        "print([m for m in ('fsspec', 's3fs', 'botocore') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_find_what_is_damaged_at_the_url_is_uploaded_by_who_has_it(
    machine: Machine, url: str
) -> None:
    committed(machine("one"), spec())
    altered(url, "rows.jsonl", b"rox")
    with pytest.raises(StageError, match="missing or damaged"):
        machine("two").fetch("prepare", spec().key)
    assert machine("one").find(spec()) is not None
    assert rows(machine("two").fetch("prepare", spec().key)) == "row"


def test_damage_each_side_is_held_against_its_own_record(machine: Machine, url: str) -> None:
    """Two machines may make one key of different bytes: either's is whole."""
    one, two = machine("one"), machine("two")
    first = committed(one, spec(), "of one")
    committed(two, spec(), "of two")
    assert rows(first) == "of one"
    (record,) = one.records()
    assert one.damage(record) == ""
    fs, root = fsspec.url_to_fs(url)
    for file in fs.glob(f"{root}/artifacts/**/rows.jsonl"):
        fs.pipe_file(file, b"rox")
    assert "its files at the store" in one.damage(record)
    assert "here" not in one.damage(record)


@pytest.mark.parametrize("url", ["file"], indirect=True)
def test_find_tells_other_machines_that_it_is_used(machine: Machine, url: str) -> None:
    made = committed(machine("one"), spec())
    (there,) = Path(url.removeprefix("file://")).rglob(f"{made.key}/record.json")
    for path in (there, made.folder / "record.json"):
        record = json.loads(path.read_text())
        path.write_text(json.dumps(record | {"created": "2020-01-01T00:00:00+00:00"}))
        os.utime(path, (0, 0))
    (record,) = machine("three").records()
    assert machine("three").last_used(record).year == 2020
    assert machine("two").find(spec()) is not None  # downloaded
    os.utime(there, (0, 0))
    assert machine("two").find(spec()) is not None  # found
    assert machine("three").last_used(next(machine("three").records())) > datetime.now(
        UTC
    ) - timedelta(hours=1)


@pytest.mark.parametrize("url", ["file"], indirect=True)
def test_unfinished_uploads_are_found_and_removed(machine: Machine, url: str) -> None:
    one = machine("one")
    made = committed(one, spec())
    folder = Path(url.removeprefix("file://")) / "artifacts" / "prepare" / made.key
    (folder / "record.json").unlink()
    soon = datetime.now(UTC) + timedelta(hours=1)
    assert one.unfinished_uploads(datetime.now(UTC) - timedelta(hours=1)) == []
    assert one.unfinished_uploads(soon) == [f"prepare/{made.key}"]
    one.discard_upload(f"prepare/{made.key}")
    assert one.unfinished_uploads(soon) == []
    assert not folder.exists()


def test_open_store_that_is_only_looked_at_is_not_written(tmp_path: Path) -> None:
    url = f"file://{tmp_path}/nothing"
    with pytest.raises(InputError, match="no run has used this address"):
        open_store(RuntimeConfig(), url, writes=False)
    assert not (tmp_path / "nothing").exists()


@pytest.mark.parametrize("url", ["file"], indirect=True)
@pytest.mark.parametrize("name", ["*", "prep?re", "[p]repare", "a\nb"])
def test_unfinished_uploads_whose_names_no_artifact_has_are_left(
    machine: Machine, url: str, name: str
) -> None:
    made = committed(machine("one"), spec())
    stranger = Path(url.removeprefix("file://")) / "artifacts" / name / made.key / "x"
    stranger.parent.mkdir(parents=True)
    stranger.touch()
    soon = datetime.now(UTC) + timedelta(hours=1)
    assert machine("one").unfinished_uploads(soon) == []
    assert stranger.is_file()
