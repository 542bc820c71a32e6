"""Datasets of the hub: rows and identity of one commit, from its cache and without a network."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from raft_core.config import base as config
from raft_core.config.base import fingerprint, pinned
from raft_core.data import hub_datasets
from raft_core.data.hub_datasets import read_hub_rows, require_own_files
from raft_core.data.sources import Columns, DataSource, read_rows
from raft_core.errors import InputError
from raft_core.evaluation.benchmarks.questions import QuestionsBenchmark

COMMIT = "0123456789abcdef0123456789abcdef01234567"
CARD = """---
configs:
- config_name: default
  data_files: [{split: train, path: train.jsonl}, {split: test, path: test.jsonl}]
- config_name: hard
  data_files: [{split: test, path: hard.jsonl}]
---
"""


def rows(*names: str) -> str:
    return "".join(json.dumps({"q": f"What is {n}?", "a": f"It is {n}."}) + "\n" for n in names)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a dataset whose commit `main` is cached; the network is off."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "arrow")
    repository = tmp_path / "datasets--org--general"
    files = repository / "snapshots" / COMMIT
    files.mkdir(parents=True)
    (files / "README.md").write_text(CARD)
    (files / "train.jsonl").write_text(rows("red"))
    (files / "test.jsonl").write_text(rows("blue", "green"))
    (files / "hard.jsonl").write_text(rows("grey"))
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(COMMIT)
    config.hub_commit.cache_clear()
    yield "hub:org/general"  # type: ignore[misc]
    config.hub_commit.cache_clear()


def questions(source: DataSource) -> list[str]:
    return [row["q"] for _, row in read_rows(source, ("q", "a"))]


def test_hub_dataset_split_and_subset_choose_the_rows(hub: str) -> None:
    assert questions(DataSource(path=hub, split="test")) == ["What is blue?", "What is green?"]
    assert questions(DataSource(path=hub, split="test", subset="hard")) == ["What is grey?"]
    everything = [row for _, row in read_rows(DataSource(path=hub), ("q", "a"))]
    assert [row["split"] for row in everything] == ["train", "test", "test"]
    assert everything[0]["q"] == "What is red?"


def test_hub_dataset_questions_benchmark_reads_its_columns(hub: str) -> None:
    columns = Columns(question="q", answer="a")
    benchmark = QuestionsBenchmark(data=DataSource(path=hub, split="test", columns=columns))
    items = benchmark.items(Path())
    assert [(item.prompt, item.reference) for item in items] == [
        ("What is blue?", "It is blue."),
        ("What is green?", "It is green."),
    ]


def test_hub_dataset_identity_is_the_commit_and_pinning_changes_nothing(hub: str) -> None:
    source = DataSource(path=hub, split="test")
    at_commit = pinned({"data": source})["data"]
    assert at_commit.revision == COMMIT
    assert fingerprint(at_commit) == fingerprint(source)
    assert fingerprint(source)["commit"] == COMMIT
    assert fingerprint(source) != fingerprint(DataSource(path=hub, split="train"))


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"split": "validation"}, "not readable as subset 'default', split 'validation'"),
        ({"subset": "easy"}, "not readable as subset 'easy'"),
        ({"revision": "v2"}, "revision 'v2' cannot be resolved from here"),
        ({"revision": "f" * 40}, "not in the hub's cache here"),
        ({"path": "hub:org/other"}, "revision 'main' cannot be resolved from here"),
        ({"path": "hub:a/b/c"}, "no name of a hub dataset"),
    ],
)
def test_hub_dataset_that_is_not_there_one_error_with_the_remedy(
    hub: str, changes: dict[str, Any], told: str
) -> None:
    source = DataSource.model_validate({"path": hub, "split": "test"} | changes)
    with pytest.raises(InputError, match=f"data 'hub:.*{told}"):
        list(read_rows(source, ("q", "a")))


def test_hub_unreachable_and_not_cached_error_before_anything_is_read(
    hub: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.HfApi.dataset_info", unreachable)
    with pytest.raises(InputError, match=r"dataset 'org/new': neither .*ConnectionError"):
        fingerprint(DataSource(path="hub:org/new"))
    assert fingerprint(DataSource(path=hub))["commit"] == COMMIT  # the cache still knows


def unreachable(*_: Any, **__: Any) -> None:
    raise ConnectionError("no route")


def test_local_data_has_no_revision_and_keeps_its_identity(tmp_path: Path) -> None:
    file = tmp_path / "d.jsonl"
    file.write_text(rows("red"))
    assert set(fingerprint(DataSource(path=str(file)))) == {"digest", "columns"}
    with pytest.raises(ValueError, match="revision and split: only data of the hub"):
        DataSource(path=str(file), revision="main", split="test")


ELSEWHERE = ["/etc/hostname", "../secret.jsonl", "https://h/x.jsonl", "a.jsonl::http:h"]


@pytest.mark.parametrize("elsewhere", ELSEWHERE)
@pytest.mark.parametrize("name", ["README.md", ".huggingface.yaml"])
def test_hub_dataset_whose_card_names_a_file_elsewhere_is_refused(
    tmp_path: Path, name: str, elsewhere: str
) -> None:
    card = tmp_path / name
    told = f"configs:\n- config_name: default\n  data_files: '{elsewhere}'\n"
    card.write_text(f"---\n{told}---\n" if name == "README.md" else told)
    with pytest.raises(InputError, match=r"names a file that is not its own"):
        require_own_files("org/name", tmp_path)
    own = "configs:\n- data_files: [{split: test, path: data/*.jsonl}]\n"
    card.write_text(f"---\n{own}---\n" if name == "README.md" else own)
    require_own_files("org/name", tmp_path)


LAUGHS = "configs:\n- &a0 [x, x]\n" + "".join(
    f"- &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 9)
)


def test_hub_dataset_whose_card_repeats_itself_is_looked_at_once(tmp_path: Path) -> None:
    for told in ("configs: &a\n- *a\n", LAUGHS):
        (tmp_path / "README.md").write_text(f"---\n{told}---\n")
        require_own_files("org/name", tmp_path)  # it took minutes, or ended in a RecursionError


@pytest.mark.parametrize("told", [b"foo: [\n", b"- a\n", b"foo: \xff\n"])
def test_hub_dataset_whose_card_cannot_be_read_is_one_error(
    told: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "README.md").write_bytes(b"---\n" + told + b"---\n")
    monkeypatch.setattr(hub_datasets, "snapshot", lambda *_: str(tmp_path))
    with pytest.raises(InputError, match=r"data 'hub:org/name' at .*not readable"):
        list(read_hub_rows("org/name", COMMIT, None, None, ("question",)))
