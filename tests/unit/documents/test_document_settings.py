"""Shipped profiles parse; keys fork with what changes a result and with nothing else."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import pytest

from flows.parameters import require_place
from raft_core.app.document_settings import DocumentSettings, load_document_settings
from raft_core.app.model_lineage import lineage
from raft_core.app.pipeline import DOCUMENTS, STAGES
from raft_core.app.settings import CONF, load_settings
from raft_core.documents.reading import read_documents
from raft_core.documents.sources import DocumentSource
from raft_core.errors import InputError
from raft_core.execution.shards import WHOLE

PROFILES = sorted(path.stem for path in (CONF / "documents").glob("*.yaml"))
GIVEN = {"gpu": "documents"}


@pytest.mark.parametrize("profile", PROFILES)
def test_shipped_documents_profile_parses_on_the_machine_of_its_name(profile: str) -> None:
    settings = load_document_settings(profile, GIVEN.get(profile))
    machine = load_settings(profile, "law").runtime
    assert settings.profile == profile
    assert (settings.runtime.device, settings.runtime.endpoints) == (
        machine.device, machine.endpoints,
    )  # fmt: skip


def test_gpu_profile_asks_with_a_large_model_and_votes_with_three() -> None:
    settings = load_document_settings("gpu", "folder")
    assert settings.ask.proposer.kind == "llm"
    assert [voter.kind for voter in settings.vote.voters] == ["llm_verdict"] * 3
    assert settings.runtime.pools["ask"] == "raft-gpu"


def test_gpu_profile_without_documents_is_one_error() -> None:
    with pytest.raises(InputError, match=r"field 'documents': Field required"):
        load_document_settings("gpu")


def keys(settings: DocumentSettings) -> dict[str, str]:
    configs = {
        "passages": settings.passages_stage(),
        "ask": settings.ask_stage(WHOLE),
        "vote": settings.vote_stage(),
        "pairs": settings.pairs_stage(),
    }
    assert configs.keys() == {stage.name for stage in DOCUMENTS}
    return {name: STAGES[name].spec(c, {}, settings.runtime).key for name, c in configs.items()}


@pytest.mark.parametrize(
    ("override", "forks"),
    [
        ("runtime.parallel_stages=1", set()),
        ("runtime.preload=[]", set()),
        ("passages.budget.limit=90", {"passages"}),
        ("documents=mini:documents/web", {"passages"}),
        ("limit=3", {"passages"}),
        ("ask.proposer.sampling.max_tokens=9", {"ask"}),
        ("vote.phrases=[]", {"vote"}),
    ],
)
def test_key_forks_with_what_changes_the_stages_own_result(override: str, forks: set[str]) -> None:
    before, after = (keys(load_document_settings("mini", None, o)) for o in ([], [override]))
    assert {name for name in before if before[name] != after[name]} == forks


def test_source_identity_is_names_and_contents_not_the_place(tmp_path: Path) -> None:
    one = tmp_path / "one"
    (one / "sub").mkdir(parents=True)
    (one / "sub" / "a.txt").write_text("An text.")
    shutil.copytree(one, tmp_path / "two")
    identities = [DocumentSource(path=str(tmp_path / n)).identity() for n in ("one", "two")]
    assert identities[0] == identities[1]
    globbed = DocumentSource(path=f"{one}/**/*.txt").identity()
    assert globbed == identities[0]
    (one / "sub" / "a.txt").write_text("A text.")
    assert DocumentSource(path=str(one)).identity() != identities[1]


def test_document_carries_source_title_and_the_digest_of_its_file(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a.md").write_bytes(b"\xef\xbb\xbfintro\r\n## The *first* ##\r\ntext")
    (tmp_path / "b.jsonl").write_text('{"id": 7, "text": "row", "title": "T", "source": "S"}')
    documents, rejected = read_documents(DocumentSource(path=str(tmp_path)), 1_000)
    assert rejected == []
    row, file = documents
    assert (row.id, row.source, row.title) == ("7", "S", "T")
    assert (file.id, file.title, file.text) == (
        "sub/a.md", "The *first*", "intro\n## The *first* ##\ntext",
    )  # fmt: skip
    assert file.sha256 == hashlib.sha256((tmp_path / "sub" / "a.md").read_bytes()).hexdigest()


def test_limit_keeps_the_same_documents_when_others_come(tmp_path: Path) -> None:
    for name in "abcdefgh":
        (tmp_path / f"{name}.txt").write_text(f"Text {name}.")
    source = DocumentSource(path=str(tmp_path))
    four = {d.id for d in read_documents(source, 1_000, 4)[0]}
    three = {d.id for d in read_documents(source, 1_000, 3)[0]}
    assert len(four) == 4
    assert three < four


def test_lineage_of_a_model_does_not_know_the_document_stages() -> None:
    """Champions that were trained before there were any stay what they are."""
    before = dict(STAGES)
    made_of = lineage(load_settings("mini", "law"))["code"]
    try:
        for name in (stage.name for stage in DOCUMENTS):
            del STAGES[name]
        assert lineage(load_settings("mini", "law"))["code"] == made_of
    finally:
        STAGES.clear()
        STAGES.update(before)


@pytest.mark.parametrize(
    "out", ["pairs.csv", "folder.jsonl", "file.txt/pairs.jsonl", "docs/pairs.jsonl"]
)
def test_place_that_cannot_be_written_is_one_error(out: str, tmp_path: Path) -> None:
    for name in ("folder.jsonl", "docs"):
        (tmp_path / name).mkdir()
    (tmp_path / "file.txt").write_text("x")
    documents = str(tmp_path / "docs")
    with pytest.raises(InputError, match=r"out '.*' ?(: name a|: no file can|lies among the doc)"):
        require_place(str(tmp_path / out), documents)
    assert require_place(str(tmp_path / "new" / "pairs.jsonl"), documents).name == "pairs.jsonl"
