"""Two machines and one S3 server: what one commits the other finds, and nothing torn or false.

A machine is a store with a folder, or a home, of its own; the server is moto's, a process.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from flows.cli import main
from raft_core.app.pipeline import STAGES
from raft_core.app.settings import Settings, load_settings
from raft_core.config.base import digest_file
from raft_core.errors import InputError, StageError
from raft_core.execution.execute import execute, open_execution
from raft_core.store.artifacts import ArtifactRef
from raft_core.store.record import stage_key
from raft_core.store.shared import SharedStore
from tests.artifacts import committed, rows, spec
from tests.integration.flow import ROOT
from tests.integration.s3 import s3_server

# s3fs sends a file of 100 MiB and more in parts of 50 MiB.
PART, PARTS = 50 * 2**20, 3

Machine = Callable[[str], SharedStore]


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    """Address of an S3 server that ends with the tests."""
    with s3_server() as address:
        yield address


@pytest.fixture
def fs(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The server's file system with one empty bucket; the environment names server and keys."""
    import s3fs

    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "somebody")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hunter2")
    fs = s3fs.S3FileSystem(skip_instance_cache=True, use_listings_cache=False)
    if fs.exists("bucket"):
        fs.rm("bucket", recursive=True)
    fs.mkdir("bucket")
    return fs


@pytest.fixture
def machine(fs: Any, tmp_path: Path) -> Machine:
    return lambda name: SharedStore(tmp_path / name, "s3://bucket/prefix")


def remote(fs: Any, pattern: str) -> str:
    (found,) = fs.glob(f"bucket/prefix/artifacts/**/{pattern}")
    return found


def test_find_what_another_machine_committed_is_brought_here(machine: Machine) -> None:
    assert machine("one").find(spec()) is None
    made = committed(machine("one"), spec())
    found = machine("two").find(spec())
    assert rows(found) == "row"
    assert found is not None
    assert found.folder.is_relative_to(machine("two").root)
    assert (found.folder / "record.json").read_bytes() == (made.folder / "record.json").read_bytes()


def test_find_artifact_of_a_large_and_an_empty_file_is_the_same_bytes(machine: Machine) -> None:
    one = machine("one")
    work = one.work_folder(spec())
    with open(work / "out" / "model.safetensors", "wb") as handle:
        for part in range(PARTS):
            handle.write(bytes([part]) * PART)
    (work / "out" / "empty.txt").touch()
    made = one.commit(spec(), work, 1.0)
    found = machine("two").find(spec())
    assert found is not None
    assert (found.folder / "empty.txt").read_bytes() == b""
    large = found.folder / "model.safetensors"
    assert large.stat().st_size == PARTS * PART
    assert digest_file(large) == digest_file(made.folder / "model.safetensors")


def test_find_altered_remote_file_is_absent_until_it_is_committed_again(
    machine: Machine, fs: Any
) -> None:
    committed(machine("one"), spec())
    fs.pipe_file(remote(fs, "rows.jsonl"), b"rox")
    assert machine("two").find(spec()) is None
    committed(machine("two"), spec())
    assert rows(machine("three").find(spec())) == "row"


def test_find_upload_killed_before_the_record_is_absent(machine: Machine, fs: Any) -> None:
    code = (
        "import os, signal, sys\n"
        "from raft_core.store.shared import SharedStore\n"
        "from tests.artifacts import committed, spec\n"
        "store = SharedStore(sys.argv[1], 's3://bucket/prefix')\n"
        "store._remote._fs.put_file = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\n"
        "committed(store, spec())\n"
    )
    one = machine("one")
    killed = subprocess.run([sys.executable, "-c", code, str(one.root)], cwd=ROOT)
    assert killed.returncode == -9
    assert remote(fs, "rows.jsonl")
    assert not fs.glob("bucket/prefix/artifacts/**/record.json")
    assert machine("two").find(spec()) is None
    assert rows(one.find(spec())) == "row"
    assert rows(machine("two").find(spec())) == "row"


def test_find_record_that_names_a_file_outside_is_refused(
    machine: Machine, fs: Any, tmp_path: Path
) -> None:
    committed(machine("one"), spec())
    path = remote(fs, "record.json")
    forged = json.loads(fs.cat_file(path)) | {"files": {"../evil": "0" * 64}}
    fs.pipe_file(path, json.dumps(forged).encode())
    with pytest.raises(StageError, match=r"names '\.\./evil'.*refused"):
        machine("two").find(spec())
    assert not list(tmp_path.rglob("evil"))


def test_commit_of_two_machines_under_one_key_leaves_a_whole_artifact(machine: Machine) -> None:
    one, two = machine("one"), machine("two")
    committed(one, spec(), "from one")
    committed(two, spec(), "from two")
    assert rows(one.find(spec())) == "from one"
    assert rows(machine("three").find(spec())) == "from two"


def test_store_commands_list_verify_and_remove_on_s3(
    machine: Machine, fs: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    made = committed(machine("one"), spec())
    store = ["artifacts", "--store", "s3://bucket/prefix"]
    assert main([*store, "ls"]) == 0
    assert f"prepare/{made.key}" in capsys.readouterr().out
    fs.pipe_file(remote(fs, "rows.jsonl"), b"rox")
    assert main([*store, "verify"]) == 1
    committed(machine("two"), spec())
    assert main([*store, "verify"]) == 0
    assert main([*store, "gc", "--days", "0", "--delete"]) == 0
    assert not fs.glob("bucket/prefix/artifacts/**/record.json")
    assert machine("three").find(spec()) is None


# Names that a glob, or a path, would take for those of artifacts that are to be kept.
STAGES_BESIDE = ["*", "?repare", "[p]repare", "**", "{prepare,filter}", "Prep are", "..", "", "\\"]


@pytest.mark.parametrize("stage", STAGES_BESIDE)
def test_gc_objects_beside_artifacts_whose_names_are_patterns_remove_nothing(
    machine: Machine, fs: Any, stage: str
) -> None:
    made = committed(machine("one"), spec())
    forged = record_of_stage(fs, stage)
    hostile = {
        f"prefix/artifacts/{stage}/{made.key}/x": b"",
        f"prefix/artifacts/{stage}/{forged['key']}/record.json": json.dumps(forged).encode(),
        f"prefix/artifacts/prepare/{made.key[:-1]}?/x": b"",
    }
    for name, content in hostile.items():
        fs.call_s3("put_object", Bucket="bucket", Key=name, Body=content)
    store = ["artifacts", "--store", "s3://bucket/prefix"]
    keep = ["--keep", f"prepare/{made.key}"]
    assert main([*store, "gc", "--days", "0", "--delete", *keep]) == 0
    assert rows(machine("three").find(spec())) == "row"


def test_gc_removes_exactly_the_files_of_one_artifact_on_s3(machine: Machine, fs: Any) -> None:
    gone, kept = committed(machine("one"), spec()), committed(machine("one"), spec(stage="filter"))
    fs.call_s3("put_object", Bucket="bucket", Key=f"prefix/artifacts/prepare/{gone.key}x/y")
    keep = ["--keep", f"filter/{kept.key}"]
    store = ["artifacts", "--store", "s3://bucket/prefix"]
    assert main([*store, "gc", "--days", "0", "--delete", *keep]) == 0
    left = sorted(name.partition("/artifacts/")[2] for name in fs.find("bucket/prefix/artifacts"))
    assert left[-1] == f"prepare/{gone.key}x/y"
    assert all(name.startswith(f"filter/{kept.key}/") for name in left[:-1])
    assert len(left) == 3


def record_of_stage(fs: Any, stage: str) -> dict[str, Any]:
    """A record that is whole, of a stage that is named so."""
    record = json.loads(fs.cat_file(remote(fs, "record.json")))
    key = stage_key(stage, record["version"], record["identity"], record["read"])
    return record | {"stage": stage, "key": key, "created": "2020-01-01T00:00:00+00:00"}


def test_localised_inputs_of_another_machine_are_brought_here(machine: Machine) -> None:
    wanted = spec(stage="filter", inputs={"prepare": committed(machine("one"), spec())})
    here = machine("two").localised(wanted)
    assert rows(here.inputs["prepare"]) == "row"
    assert here.inputs["prepare"].folder.is_relative_to(machine("two").root)
    assert here.key == wanted.key


def settings_at(home: Path) -> Settings:
    overrides = [f"runtime.home={home}", "runtime.store=s3://bucket/prefix"]
    return load_settings("mini", "law", overrides, limit=150)


def prepared(home: Path) -> tuple[str, ArtifactRef]:
    """Name of the state in which the stage `prepare` ended, and its artifact."""
    settings = settings_at(home)
    with open_execution(settings.runtime, STAGES) as run:
        made = execute(run, STAGES["prepare"].spec(settings.prepare_stage(), {}, run.runtime))
    return "Cached" if made.cached else "Completed", made.artifact


def test_stage_that_another_machine_ran_is_cached(
    fs: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAFT_HOME", raising=False)
    ended, made = prepared(tmp_path / "one")
    assert ended == "Completed"
    ended, found = prepared(tmp_path / "two")
    assert ended == "Cached"
    assert found.folder.is_relative_to(tmp_path / "two" / "store" / "artifacts")
    names = sorted(path.relative_to(made.folder) for path in made.folder.rglob("*"))
    assert names == sorted(path.relative_to(found.folder) for path in found.folder.rglob("*"))


@pytest.mark.parametrize(
    ("variables", "url", "message"),
    [
        ({}, "s3://no-such-bucket/prefix", "no such bucket or folder (NoSuchBucket)"),
        ({"AWS_ENDPOINT_URL": "http://127.0.0.1:9"}, "s3://bucket", "EndpointConnectionError"),
        ({"AWS_ENDPOINT_URL_S3": "http://127.0.0.1:9"}, "s3://bucket", "EndpointConnectionError"),
        ({"AWS_ACCESS_KEY_ID": ""}, "s3://bucket", "Credentials"),
    ],
)
def test_context_store_that_cannot_be_reached_is_one_error_before_any_work(
    variables: dict[str, str],
    url: str,
    message: str,
    fs: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("RAFT_STORE", url)
    with (
        pytest.raises(InputError, match=f"store '{url}' cannot be read and written: .*") as caught,
        open_execution(settings_at(tmp_path / "home").runtime, STAGES),
    ):
        raise AssertionError("the context was opened")
    assert message in str(caught.value)
    assert os.environ["AWS_SECRET_ACCESS_KEY"] not in str(caught.value)
    assert not (tmp_path / "home").exists()
