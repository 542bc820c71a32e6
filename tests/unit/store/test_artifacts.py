"""The store: nothing is done without its record, and nothing altered is taken for done."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from raft_core.errors import StageError
from raft_core.store.artifacts import ArtifactRef, Store
from raft_core.store.record import is_foreign, read_record
from tests.artifacts import committed, rows, spec


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path)


def test_key_identity_version_stage_and_inputs_fork_it() -> None:
    upstream = ArtifactRef(stage="prepare", key="k", path="/one")
    others = [
        spec(identity={"a": 2}),
        spec(version=2),
        spec(stage="filter"),
        spec(inputs={"prepare": upstream}),
        spec(inputs={"other": upstream}),
    ]
    assert len({s.key for s in [spec(), *others]}) == 6


def test_key_runtime_config_and_an_inputs_place_do_not_matter() -> None:
    here = ArtifactRef(stage="prepare", key="k", path="/one")
    there = ArtifactRef(stage="prepare", key="k", path="/two")
    plain = spec(inputs={"prepare": here})
    moved = spec(inputs={"prepare": there}, runtime={"threads": 9}, config={"path": "/x"})
    assert plain.key == moved.key


def holding(key: str, **files: str) -> ArtifactRef:
    return ArtifactRef(stage="prepare", key=key, path="/one", files=files)


def reading(ref: ArtifactRef, *parts: str) -> str:
    return spec(inputs={"prepare": ref}, reads={"prepare": parts}).key


def test_key_stands_for_the_parts_that_are_read_and_for_nothing_else() -> None:
    one, other = holding("a", train="1", test="2"), holding("b", train="1", test="3")
    assert reading(one, "train") == reading(other, "train")
    assert reading(one, "t*") != reading(other, "t*")
    assert reading(one, "train") != reading(one, "t*")
    assert reading(one, "train") != reading(holding("a", train="9"), "train")
    assert reading(one, "train") != reading(holding("a", renamed="1"), "renamed")


def test_key_of_what_reads_the_record_forks_with_the_artifact() -> None:
    one, other = holding("a", train="1"), holding("b", train="1")
    assert reading(one, "*") == reading(other, "*")
    assert reading(one, "train", "record.json") != reading(other, "train", "record.json")


def test_localised_input_that_holds_something_else_here_is_refused(store: Store) -> None:
    made = committed(store, spec())
    elsewhere = made.model_copy(update={"files": {"sub/rows.jsonl": "0" * 64}})
    wanted = spec(stage="filter", inputs={"prepare": elsewhere})
    with pytest.raises(StageError, match=r"of stage .filter. .* holds other content"):
        store.localised(wanted)


def test_peek_finds_what_is_recorded_without_looking_at_files(store: Store) -> None:
    assert store.peek(spec()) is None
    made = committed(store, spec())
    (made.folder / "sub" / "rows.jsonl").unlink()
    assert store.peek(spec()) == made


def test_find_before_commit_nothing_after_commit_the_folder(store: Store) -> None:
    assert store.find(spec()) is None
    made = committed(store, spec())
    found = store.find(spec())
    assert found == made
    assert (found.folder / "sub" / "rows.jsonl").read_text() == "row"


def test_commit_record_names_digests_inputs_and_time(store: Store) -> None:
    record = read_record(committed(store, spec()).folder)
    assert record is not None
    assert list(record.files) == ["sub/rows.jsonl"]
    assert record.seconds == 1.5
    assert not (store.root / "work" / f"prepare-{spec().key}").exists()


@pytest.mark.parametrize("damage", ["altered", "removed", "no record", "torn record"])
def test_find_damaged_artifact_is_not_done_and_can_be_made_again(store: Store, damage: str) -> None:
    folder = committed(store, spec()).folder
    if damage == "altered":
        (folder / "sub" / "rows.jsonl").write_text("rows")
    elif damage == "removed":
        (folder / "sub" / "rows.jsonl").unlink()
    elif damage == "no record":
        (folder / "record.json").unlink()
    else:
        (folder / "record.json").write_text('{"stage": "prep')
    assert store.find(spec()) is None
    committed(store, spec(), "again")
    assert store.find(spec()) is not None


def test_lock_second_holder_waits_for_the_first(store: Store) -> None:
    order: list[str] = []

    def second() -> None:
        with store.lock(spec()):
            order.append("second")

    with store.lock(spec()):
        thread = threading.Thread(target=second)
        thread.start()
        time.sleep(0.2)
        order.append("first")
    thread.join(5)
    assert order == ["first", "second"]


def test_lock_of_a_killed_holder_is_free(store: Store) -> None:
    code = (
        "import sys, time; from raft_core.store.artifacts import Store, StageSpec\n"
        "spec = StageSpec.model_validate_json(sys.argv[2])\n"
        "with Store(sys.argv[1]).lock(spec):\n"
        "    print('held', flush=True); time.sleep(60)\n"
    )
    root = str(Path(__file__).resolve().parents[3])
    holder = subprocess.Popen(
        [sys.executable, "-c", code, str(store.root), spec().model_dump_json()],
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": root},
        text=True,
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    holder.kill()
    holder.wait()
    holder.stdout.close()
    started = time.monotonic()
    with store.lock(spec()):
        assert time.monotonic() - started < 5


def test_fetch_by_stage_and_key_is_the_artifact(store: Store) -> None:
    made = committed(store, spec())
    assert store.fetch("prepare", spec().key) == made


def test_fetch_of_what_is_nowhere_says_where_it_looked(store: Store) -> None:
    with pytest.raises(StageError, match=rf"prepare/{spec().key} is missing .*'{store.root}'"):
        store.fetch("prepare", spec().key)


@pytest.mark.parametrize(("stage", "key"), [("..", "k"), ("prepare", "../k"), ("", "k")])
def test_fetch_of_a_path_in_place_of_a_name_is_refused(store: Store, stage: str, key: str) -> None:
    with pytest.raises(StageError, match="no artifact is named"):
        store.fetch(stage, key)
    assert not list(store.root.iterdir())


def test_localised_inputs_of_another_place_are_found_here_under_one_key(store: Store) -> None:
    made = committed(store, spec())
    elsewhere = made.model_copy(update={"path": "/elsewhere"})
    wanted = spec(stage="filter", inputs={"prepare": elsewhere})
    here = store.localised(wanted)
    assert rows(here.inputs["prepare"]) == "row"
    assert here.key == wanted.key


def test_commit_to_a_full_disk_is_one_error_and_the_work_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, wanted = Store(tmp_path), spec()
    work = store.work_folder(wanted)
    (work / "out" / "rows.jsonl").write_text("row")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("raft_core.store.artifacts.write_record", full)
        with pytest.raises(StageError, match=r"'prepare'.*No space left.*free some space"):
            store.commit(wanted, work, 1.0)
    assert store.find(wanted) is None
    assert store.commit(wanted, work, 1.0).folder.is_dir()


def test_record_nested_beyond_reason_is_none_of_another_release(tmp_path: Path) -> None:
    folder = tmp_path / "prepare" / ("0" * 24)
    folder.mkdir(parents=True)
    (folder / "record.json").write_text("[" * 100_000)
    assert read_record(folder) is None
    assert not is_foreign(folder)
