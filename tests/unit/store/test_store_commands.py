"""`python -m raft_core artifacts` on a folder and on a shared store."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from flows.cli import main
from raft_core.config.runtime import RuntimeConfig
from raft_core.store.artifacts import ArtifactRef, Store
from raft_core.store.leftovers import discard
from raft_core.store.shared import open_store
from tests.artifacts import committed, spec

Call = Callable[..., tuple[int, str]]


@pytest.fixture(params=["folder", "shared"])
def store(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    shared = request.param == "shared"
    address = f"{'file://' if shared else ''}{tmp_path}/store"
    monkeypatch.setenv("RAFT_STORE", address)
    return open_store(RuntimeConfig())


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Call:
    def called(*arguments: str) -> tuple[int, str]:
        code = main(["artifacts", *arguments])
        shown = capsys.readouterr()
        return code, shown.out + shown.err

    return called


def chain(store: Store, tau: float, rows: str = "a") -> list[ArtifactRef]:
    """prepare -> filter -> report, as far as their keys go."""
    prepared = committed(store, spec(identity={"domain": {"data": rows}}))
    chosen = committed(
        store,
        spec(
            stage="filter",
            identity={"filter": {"tau": tau, "view": "answers"}, "encoder": {"max_tokens": 256}},
            inputs={"prepare": prepared},
        ),
    )
    report = committed(
        store,
        spec(
            stage="report",
            inputs={"filter": chosen, "prepare": prepared},
            identity={"tau": tau},  # as the real one, which draws it
        ),
    )
    return [prepared, chosen, report]


def age(artifact: ArtifactRef, days: int) -> None:
    """Rewrite when it was made, here and where it is shared."""
    above = Path(os.environ["RAFT_STORE"].removeprefix("file://")).parent
    for path in above.rglob(f"{artifact.key}/record.json"):
        record = json.loads(path.read_text())
        created = datetime.now(UTC) - timedelta(days)
        path.write_text(json.dumps(record | {"created": created.isoformat()}))
        os.utime(path, (created.timestamp(), created.timestamp()))


def age_tree(folder: Path, days: float = 400) -> None:
    when = (datetime.now(UTC) - timedelta(days)).timestamp()
    for path in (folder, *folder.rglob("*")):
        os.utime(path, (when, when))


def test_ls_names_every_artifact_and_what_it_is_made_of(store: Store, call: Call) -> None:
    prepared, chosen, report = chain(store, 0.8)
    code, shown = call("ls")
    assert code == 0
    assert len(shown.splitlines()) == 3
    assert f"filter/{chosen.key}  prepare={prepared.key}" in shown
    _, alone = call("ls", "--stage", "report")
    assert [line.split()[3] for line in alone.splitlines()] == [f"report/{report.key}"]


def test_explain_runs_that_differ_in_tau_names_filter_tau_and_nothing_else(
    store: Store, call: Call
) -> None:
    one, other = chain(store, 0.8)[-1], chain(store, 0.7)[-1]
    assert call("explain", f"report/{one.key}", f"report/{other.key}") == (
        0, "filter.tau: 0.8 -> 0.7\n",
    )  # fmt: skip
    assert call("explain", one.key[:12], one.key)[1] == "the keys are equal\n"


def test_explain_names_every_field_once_and_a_version(store: Store, call: Call) -> None:
    one, other = chain(store, 0.8, "a")[-1], chain(store, 0.7, "b")[-1]
    shown = call("explain", one.key, other.key)[1].splitlines()
    assert shown == ["domain.data: a -> b  (prepare)", "filter.tau: 0.8 -> 0.7"]
    newer = committed(store, spec(version=2, identity={"domain": {"data": "a"}}))
    older = committed(store, spec(identity={"domain": {"data": "a"}}))
    assert call("explain", older.key, newer.key)[1] == "version of prepare: 1 -> 2\n"


@pytest.mark.parametrize("name", ["report/0123", "nothing", ""])
def test_explain_unknown_or_ambiguous_name_is_one_error(
    store: Store, call: Call, name: str
) -> None:
    chain(store, 0.8)
    code, shown = call("explain", name, name)
    assert code == 2
    assert shown.startswith(f"error: artifact '{name}'")
    assert shown.count("\n") == 1


def test_verify_counts_and_names_what_is_damaged(store: Store, call: Call) -> None:
    _, chosen, _ = chain(store, 0.8)
    assert call("verify") == (0, "3 artifacts checked, 0 damaged\n")
    (chosen.folder / "sub" / "rows.jsonl").write_text("other")
    code, shown = call("verify")
    assert code == 1
    assert f"damaged: filter/{chosen.key}" in shown
    assert "3 artifacts checked, 1 damaged" in shown


def test_gc_removes_what_is_old_and_that_nothing_kept_stands_on(store: Store, call: Call) -> None:
    old, young = chain(store, 0.8), chain(store, 0.7)
    for artifact in (*old, young[0]):
        age(artifact, 400)
    code, shown = call("gc")
    assert code == 0
    unused = {line.split()[1] for line in shown.splitlines() if line.startswith("unused")}
    assert unused == {f"{a.stage}/{a.key}" for a in old[1:]}  # the new filter reads the old rows
    assert len(list(store.records())) == 5
    call("gc", "--delete", "--keep", f"filter/{old[1].key}")
    assert {r.key for r in store.records()} == {a.key for a in (old[0], old[1], *young)}
    assert call("verify")[0] == 0


def test_gc_keeps_what_a_decision_stands_on(store: Store, call: Call) -> None:
    made = chain(store, 0.8)
    decision = committed(store, spec(stage="promote", inputs={"challenger": made[1]}))
    for artifact in (*made, decision):
        age(artifact, 400)
    call("gc", "--delete")
    assert {r.stage for r in store.records()} == {"prepare", "filter", "promote"}


def test_gc_leaves_what_a_run_holds_and_takes_abandoned_work(store: Store, call: Call) -> None:
    prepared = chain(store, 0.8)[0]
    for record in list(store.records()):
        age(ArtifactRef(stage=record.stage, key=record.key, path=""), 400)
    work = store.work_folder(spec(stage="distill"))
    age_tree(work)
    with store.lock(spec(identity={"domain": {"data": "a"}})):
        _, shown = call("gc", "--delete")
    assert f"in use: prepare/{prepared.key}" in shown
    assert f"removed: work/{work.name}" in shown
    assert "1 unfinished stages" in shown
    assert [r.key for r in store.records()] == [prepared.key]
    assert not work.exists()


def test_gc_while_a_run_uses_the_store_is_refused(store: Store, call: Call) -> None:
    made = chain(store, 0.8)
    for each in made:
        age(each, 60)
    with store.in_use():
        code, shown = call("gc", "--delete")
        assert code == 2
        assert "a run is using this store" in shown
        assert call("gc")[0] == 0
    assert all(each.folder.is_dir() for each in made)


def test_gc_keeps_what_was_found_lately(store: Store, call: Call) -> None:
    made = chain(store, 0.8)
    for each in made:
        age(each, 60)
    store.fetch("filter", made[1].key)
    call("gc", "--delete")
    assert {r.stage for r in store.records()} == {"prepare", "filter"}


def test_verify_and_gc_torn_record_is_told_and_taken(
    tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAFT_STORE", str(tmp_path))
    torn = chain(Store(tmp_path), 0.8)[2]
    (torn.folder / "record.json").write_text("")
    code, shown = call("verify")
    assert code == 1
    assert f"no valid record: report/{torn.key}" in shown
    assert "3 artifacts checked, 1 damaged" in shown
    age_tree(torn.folder)
    call("gc", "--delete")
    assert not torn.folder.exists()


def test_find_record_of_another_identity_counts_as_absent(tmp_path: Path) -> None:
    local = Store(tmp_path)
    made = chain(local, 0.8)[0]
    record = json.loads((made.folder / "record.json").read_text())
    changed = record | {"identity": {}, "files": {}}
    (made.folder / "record.json").write_text(json.dumps(changed))
    assert local.find(spec(identity={"domain": {"data": "a"}})) is None


def test_discard_leaves_a_download_that_goes_on(tmp_path: Path) -> None:
    local, wanted = Store(tmp_path), spec()
    folder = tmp_path / "work" / f"{wanted.stage}-{wanted.key}.download"
    folder.mkdir(parents=True)
    with local.lock(wanted):
        assert not discard(local, folder)
    assert discard(local, folder)


def test_explain_names_the_stage_of_fields_that_several_have(store: Store, call: Call) -> None:
    """Two stages sample; what changed in one of them must not hide what changed in the other."""

    def answered(rewriting: int, answering: int) -> ArtifactRef:
        written = committed(store, spec(stage="rewrite", identity={"sampling": {"max": rewriting}}))
        return committed(
            store,
            spec(
                stage="respond",
                identity={"sampling": {"max": answering}},
                inputs={"rewrite": written},
            ),
        )

    one, other = answered(64, 48), answered(128, 96)
    assert call("explain", one.key, other.key)[1].splitlines() == [
        "sampling.max: 64 -> 128  (rewrite)", "sampling.max: 48 -> 96  (respond)",
    ]  # fmt: skip
    alike = answered(48, 48), answered(96, 96)
    assert call("explain", alike[0].key, alike[1].key)[1] == (
        "sampling.max: 48 -> 96  (rewrite, respond)\n"
    )


def test_explain_ambiguous_name_lists_what_it_may_be(store: Store, call: Call) -> None:
    one, other = chain(store, 0.8)[1], chain(store, 0.7)[1]
    _, shown = call("explain", "filter/", one.key)
    assert f"filter/{one.key}" in shown
    assert f"filter/{other.key}" in shown


@pytest.mark.parametrize("action", [("gc",), ("gc", "--delete", "--days", "0")])
def test_gc_of_a_folder_that_is_no_store_is_refused(
    tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch, action: tuple[str, ...]
) -> None:
    """Another tool's folder, which happens to have the same names in it."""
    for name in ("artifacts/1/0a1b2c/model.safetensors", "work/thesis/chapter.tex"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text("precious")
    age_tree(tmp_path)
    code, shown = call(*action, "--store", str(tmp_path))
    assert code == 2
    assert "not known as a store" in shown
    assert (tmp_path / "work/thesis/chapter.tex").is_file()


def test_gc_leaves_what_is_not_raft_s_and_what_a_later_release_wrote(
    tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAFT_STORE", str(tmp_path))
    made = chain(Store(tmp_path), 0.8)
    later = made[2].folder / "record.json"
    later.write_text(json.dumps(json.loads(later.read_text()) | {"signed_by": "a later release"}))
    (tmp_path / "work" / "thesis").mkdir()
    (tmp_path / "artifacts" / "filter" / ".DS_Store").write_text("")
    age_tree(tmp_path)
    for each in made[:2]:
        age(each, 400)
    assert call("gc", "--delete")[0] == 0
    assert later.is_file()
    assert (tmp_path / "work" / "thesis").is_dir()
    assert not made[1].folder.exists()
    code, shown = call("verify")
    assert code == 0
    assert f"of another release: report/{made[2].key}" in shown


def test_gc_leaves_a_stage_that_went_on_lately(store: Store, call: Call) -> None:
    """Its folder was made long ago; what it writes lies deeper."""
    chain(store, 0.8)
    work = store.work_folder(spec(stage="distill"))
    checkpoint = work / "out.scratch" / "checkpoints" / "checkpoint-9"
    checkpoint.mkdir(parents=True)
    age_tree(work)
    (checkpoint / "model.safetensors").write_text("weights")
    _, shown = call("gc", "--delete")
    assert work.name not in shown
    assert (checkpoint / "model.safetensors").is_file()


def test_gc_removes_the_lock_files_of_what_it_removes(store: Store, call: Call) -> None:
    made = chain(store, 0.8)
    for each in made:
        with store.lock(spec(stage=each.stage)):
            age(each, 400)
    call("gc", "--delete")
    assert not [f for f in (store.root / "locks").iterdir() if made[1].key in f.name]


@pytest.mark.parametrize("refused", [True, False])
def test_gc_refused_models_are_kept_until_it_is_said(
    store: Store, call: Call, refused: bool
) -> None:
    made = chain(store, 0.8)
    wanted = spec(stage="promote", inputs={"challenger": made[1]})
    work = store.work_folder(wanted)
    (work / "out" / "decision.json").write_text(json.dumps({"promote": not refused}))
    decision = store.commit(wanted, work, 1.0)
    for each in (*made, decision):
        age(each, 400)
    call("gc", "--delete")
    assert {r.stage for r in store.records()} == {"prepare", "filter", "promote"}
    call("gc", "--delete", "--refused")
    left = set() if refused else {"prepare", "filter", "promote"}
    assert {r.stage for r in store.records()} == left


def test_verify_file_too_many_or_unreadable_is_damage(store: Store, call: Call) -> None:
    _, chosen, report = chain(store, 0.8)
    (chosen.folder / "chat_template.jinja").write_text("another one")
    (report.folder / ".DS_Store").write_text("of a desktop")
    code, shown = call("verify")
    assert code == 1
    assert "1 damaged" in shown
    assert f"damaged: filter/{chosen.key}" in shown


def test_verify_repair_makes_it_whole_or_absent(store: Store, call: Call) -> None:
    _, chosen, _ = chain(store, 0.8)
    (chosen.folder / "sub" / "rows.jsonl").write_text("other")
    code, shown = call("verify", "--repair")
    assert code == 0
    shared = os.environ["RAFT_STORE"].startswith("file://")
    assert ("whole on both sides again" if shared else "removed") in shown
    assert call("verify")[0] == 0
    assert len(list(store.records())) == (3 if shared else 2)


def test_verify_repair_removes_torn_records(
    tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAFT_STORE", str(tmp_path))
    torn = chain(Store(tmp_path), 0.8)[2]
    (torn.folder / "record.json").write_text("{")
    assert call("verify")[0] == 1
    code, shown = call("verify", "--repair")
    assert code == 0
    assert f"no valid record: report/{torn.key}; removed" in shown
    assert call("verify") == (0, "2 artifacts checked, 0 damaged\n")


def test_verify_and_gc_torn_record_at_an_address_is_told_and_taken(
    tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAFT_STORE", f"file://{tmp_path}/there")
    shared = open_store(RuntimeConfig())
    _, chosen, report = chain(shared, 0.8)
    for each in (chosen, report):
        shutil.rmtree(each.folder)
    there = tmp_path / "there" / "artifacts"
    (there / "report" / report.key / "record.json").write_text("{")
    evil = there / "filter" / chosen.key / "record.json"
    evil.write_text(json.dumps(json.loads(evil.read_text()) | {"files": {"../x": "0" * 64}}))
    code, shown = call("verify")
    assert code == 1
    assert f"no valid record at the address: report/{report.key}" in shown
    assert f"damaged: filter/{chosen.key}: " in shown
    assert "outside its artifact" in shown
    assert "3 artifacts checked, 2 damaged" in shown
    age_tree(there)
    call("gc", "--delete")
    assert not (there / "report" / report.key).exists()


def test_ls_into_a_pipe_that_closes_is_no_traceback(store: Store) -> None:
    for tau in range(1, 9):
        chain(store, tau / 10)
    command = f"{sys.executable} -m flows.cli artifacts ls | head -n 1"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, timeout=60)
    assert done.stdout.count("\n") == 1
    assert done.stderr == ""
