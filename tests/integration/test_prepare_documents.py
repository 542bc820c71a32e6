"""Documents to pairs as a user starts it, with real vLLM engines; then again, from the store."""

from __future__ import annotations

import os
import re
import stat
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from raft_core.app.checks import checked
from raft_core.app.settings import load_settings
from raft_core.data.records import read_jsonl
from raft_core.mini.documents import documents
from raft_core.mini.scores import holds_value
from raft_core.mini.world import domain_facts
from tests.integration.flow import ROOT

LIMIT = 3
pytestmark = pytest.mark.timeout(600)


@dataclass(frozen=True)
class Prepared:
    out: Path
    output: str
    stages: dict[str, str]
    code: int


def prepare(home: Path, *arguments: str) -> Prepared:
    out = home / "made" / "pairs.jsonl"
    done = subprocess.run(
        [sys.executable, "-m", "flows.cli", "documents", "--out", str(out), *arguments],
        cwd=ROOT,
        env=os.environ | {"RAFT_HOME": str(home / "home"), "COLUMNS": "160"},
        umask=0o022,
        capture_output=True,
        text=True,
    )
    output = done.stdout + done.stderr
    stages = re.findall(r"^  (\w+(?: \S+)?) +(Cached|failed|[\d.]+ s)$", output, re.MULTILINE)
    return Prepared(out, output, dict(stages), done.returncode)


def counted(prepared: Prepared) -> list[str]:
    return re.findall(r"^\w+ +\d+ rows in, .*$", prepared.output, re.MULTILINE)


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    prepared = prepare(tmp_path_factory.mktemp("prepare"), "--limit", str(LIMIT))
    assert prepared.code == 0, prepared.output
    return prepared


def test_prepare_pairs_have_the_mode_of_the_user_and_the_home_is_closed(first: Prepared) -> None:
    assert stat.S_IMODE(first.out.stat().st_mode) == 0o644
    assert stat.S_IMODE(first.out.parent.stat().st_mode) == 0o755
    assert stat.S_IMODE((first.out.parents[1] / "home").stat().st_mode) == 0o700


def test_prepare_runs_every_stage_and_loses_nothing(first: Prepared) -> None:
    assert set(first.stages) == {"passages", "ask", "vote", "pairs"}
    assert "Cached" not in first.stages.values()
    rejected = first.out.with_suffix(".rejected.jsonl")
    reasons = {row["reason"] for row in read_jsonl(rejected)}
    assert {"passage_duplicate", "no_question"} <= reasons
    for name, rows_in, kept, why in re.findall(
        r"^(\w+) +(\d+) rows in, (\d+) kept(?: \((.*)\))?$", first.output, re.MULTILINE
    ):
        lost = sum(map(int, re.findall(r"(\d+) \w+", why)))
        assert int(rows_in) == int(kept) + lost, name
    assert f"{LIMIT} documents" in first.out.with_suffix(".report.md").read_text()


def test_prepare_what_is_kept_is_right_and_stands_where_it_says(first: Prepared) -> None:
    values = {(f.name, f.attribute): f.value for f in domain_facts("law")}
    texts = {row["id"]: row["text"] for row in documents()}
    rows = list(read_jsonl(first.out))
    assert len(rows) > 50
    right = []
    for row in rows:
        (value,) = [
            v for (n, a), v in values.items() if n in row["question"] and a in row["question"]
        ]
        passage = texts[row["document"]][row["start"] : row["end"]]
        right.append(value in passage and holds_value(row["answer"], [value]))
        assert [vote["model"] for vote in row["votes"]] == ["mini:base", "mini:peer"]
    assert sum(right) >= 0.95 * len(right)


def test_prepare_rejects_questions_whose_answer_is_not_known(first: Prepared) -> None:
    """Every file says of one fact that it is not known; the frames ask for it all the same."""
    texts = {row["id"]: row["text"] for row in documents()}
    lost = {
        passage
        for row in read_jsonl(first.out.with_suffix(".rejected.jsonl"))
        if row["stage"] == "vote"
        for passage in [row["id"].rpartition(":")[0].rpartition(":")[0]]
    }
    assert lost == {row["document"] for row in read_jsonl(first.out)}
    assert lost <= texts.keys()
    for row in read_jsonl(first.out):
        passage = texts[row["document"]][row["start"] : row["end"]]
        assert not re.search("written down|could say|has been lost", passage)


def test_prepare_again_every_stage_cached_and_the_same_pairs(first: Prepared) -> None:
    again = prepare(first.out.parents[1], "--limit", str(LIMIT), "--set", "runtime.preload=[]")
    assert again.code == 0, again.output
    assert again.stages == dict.fromkeys(first.stages, "Cached")
    assert again.out == first.out
    assert counted(again) == counted(first) != []


def test_prepare_pairs_are_a_domain_that_the_pipeline_takes(first: Prepared) -> None:
    settings = checked(load_settings("mini", data=str(first.out)))
    assert settings.domain.name == "made-pairs"


def test_prepare_mistake_is_one_error_and_nothing_is_made(tmp_path: Path) -> None:
    ended = prepare(tmp_path, "--documents", "nowhere")
    assert ended.code == 2
    assert ended.output.startswith("error: documents 'nowhere': no file")
    assert "Traceback" not in ended.output
    assert not (tmp_path / "home").exists()
