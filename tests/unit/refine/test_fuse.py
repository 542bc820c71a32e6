"""Rounds, grades, early stop and what a row falls back to."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from raft_core.config.runtime import RuntimeConfig
from raft_core.data.records import Example, FilteredRewrite, read_jsonl, write_jsonl
from raft_core.engines.base import Completion, FollowUp, OnCompletion, VllmConfig
from raft_core.execution.progress import Progress
from raft_core.execution.stage import StageRun
from raft_core.facts.guard import GuardConfig
from raft_core.refine import fuse as fusion
from raft_core.refine.fuse import FuseConfig, FuseStage
from raft_core.refine.grading import FusionRow, LlmScorer, coverage, llm_scorer, support

CONFIG = FuseConfig(
    prompt="fuse.mini.v1", judges=[{"kind": "coverage"}, {"kind": "support"}], rounds=3
)


def row(
    answer: str = "it is red", rewrite: str = "red it is", question: str = "what?"
) -> FusionRow:
    example = Example("a", question, answer, "train")
    return FusionRow(example, FilteredRewrite("a", rewrite, 0.9, True))


def test_coverage_share_of_the_agreed_words() -> None:
    # reference and rewrite agree on: it, is, red; the text has red and it
    assert coverage([row()], ["red, it was"]) == [pytest.approx(2 / 3)]


def test_coverage_nothing_agreed_full_grade() -> None:
    assert coverage([row("red", "blue")], ["green"]) == [1.0]


def test_support_share_of_words_that_were_said_before() -> None:
    # red and it are known, surely is not
    assert support([row()], ["surely it red"]) == [pytest.approx(2 / 3)]
    assert support([row()], [""]) == [0.0]


class Scripted:
    """One list of texts a round."""

    def __init__(self, *rounds: list[Completion]) -> None:
        self.rounds = list(rounds)
        self.seeds: list[list[int]] = []

    def generate(
        self,
        requests: Sequence[Any],
        *_: Any,
        on_completion: OnCompletion | None = None,
        follow_up: FollowUp | None = None,
        **__: Any,
    ) -> list[Completion]:
        told: list[Completion] = []
        while requests:
            self.seeds.append([request.seed for request in requests])
            completions = self.rounds.pop(0)
            assert len(completions) == len(requests)
            for completion in completions:
                told.append(completion)
                if on_completion:
                    on_completion(len(told) - 1, completion)
            requests = follow_up(True) if follow_up else []
        return told

    def close(self) -> None:
        pass


def said(text: str) -> Completion:
    return Completion(text, (1,), "stop")


def run_fusion(
    tmp_path: Path,
    generator: Scripted,
    monkeypatch: pytest.MonkeyPatch,
    guard: GuardConfig | None = None,
) -> StageRun:
    """Three rows: a and b pass the filter, c does not."""
    monkeypatch.setattr(fusion, "open_generator", lambda *_: generator)
    for name in ("prepare", "filter", "out"):
        (tmp_path / name).mkdir()
    examples = [Example(i, "what?", "it is red", "train") for i in "abc"]
    filtered = [
        FilteredRewrite("a", "red it is", 0.9, True),
        FilteredRewrite("b", "red it is", 0.9, True),
        FilteredRewrite("c", "blue", 0.1, False, "below_tau"),
    ]
    write_jsonl(tmp_path / "prepare" / "train.jsonl", examples)
    write_jsonl(tmp_path / "filter" / "filtered.jsonl", filtered)
    stage = StageRun(
        FuseStage(generator=VllmConfig(model={"path": "mini:base"}), fuse=CONFIG, guard=guard),
        {"prepare": tmp_path / "prepare", "filter": tmp_path / "filter"},
        tmp_path / "out",
        tmp_path,
        RuntimeConfig(device="cpu"),
        Progress(tmp_path / "events"),
    )
    fusion.run(stage)
    return stage


def test_fuse_good_row_stops_early_others_go_on_and_the_best_wins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = Scripted(
        [said("red it is"), said("red thing")],
        [said("it is")],
        [Completion("it is red and", (1,), "length")],
    )
    stage = run_fusion(tmp_path, generator, monkeypatch)
    fused = {r["id"]: r for r in read_jsonl(stage.out / "fused.jsonl")}
    assert fused["a"] == {"id": "a", "question": "what?", "answer": "red it is", "source": "fused"}
    # b: (1/3 + 1/2) / 2 = 0.417, then (2/3 + 1) / 2 = 0.833 stops it before a third round
    assert fused["b"]["answer"] == "it is"
    assert fused["c"]["source"] == "reference"
    assert len(generator.rounds) == 1


def test_fuse_no_usable_candidate_keeps_the_rewrite_and_no_row_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nothing = [Completion("", (), "error", "gone")]
    generator = Scripted([said("red it is"), *nothing], nothing, nothing)
    stage = run_fusion(tmp_path, generator, monkeypatch)
    fused = {r["id"]: r for r in read_jsonl(stage.out / "fused.jsonl")}
    assert (fused["b"]["answer"], fused["b"]["source"]) == ("red it is", "rewrite")
    counts = json.loads((stage.out / "counts.json").read_text())
    assert counts == {"in": 3, "kept": 1, "rejected": {"keeps_rewrite": 1, "keeps_reference": 1}}


def test_fuse_lineage_keeps_every_candidate_with_every_vote(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = Scripted([said("red it is"), said("red")], [said("it")], [said("red is")])
    stage = run_fusion(tmp_path, generator, monkeypatch)
    lineage = {r["id"]: r for r in read_jsonl(stage.out / "lineage.jsonl")}
    assert [len(lineage[i]["candidates"]) for i in "abc"] == [1, 3, 0]
    assert lineage["b"]["candidates"][0]["votes"] == {"coverage_1": 0.3333, "support_2": 1.0}
    assert lineage["c"]["reason"] == "below_tau"
    assert "guard" not in lineage["b"]["candidates"][0]


def test_fuse_candidate_that_fails_the_guard_cannot_win_nor_end_the_rounds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = Scripted(
        [said("red it is not"), said("red it is 7")],
        [said("it is red"), said("red it is 8")],
        [Completion("", (), "error", "gone")],
    )
    stage = run_fusion(tmp_path, generator, monkeypatch, GuardConfig())
    fused = {r["id"]: r for r in read_jsonl(stage.out / "fused.jsonl")}
    assert [(fused[i]["answer"], fused[i]["source"]) for i in "ab"] == [
        ("it is red", "fused"),
        ("red it is", "rewrite"),
    ]
    lineage = {r["id"]: r for r in read_jsonl(stage.out / "lineage.jsonl")}
    first, second = lineage["a"]["candidates"]
    assert (list(first["guard"]), first["mean"] >= 0.8) == (["negation_changed"], True)
    assert second["guard"] == {}
    assert [c["guard"] for c in lineage["b"]["candidates"]] == [
        {"number_changed": "new '7'"},
        {"number_changed": "new '8'"},
        None,
    ]
    rejected = {r["id"]: r["detail"] for r in read_jsonl(stage.out / "rejected.jsonl")}
    assert rejected["b"] == "no usable candidate; 2 of 3 failed the guard (number_changed 2)"


def test_grade_of_a_failed_judge_is_none_and_counts_as_zero(tmp_path: Path) -> None:
    judge = LlmScorer(generator=VllmConfig(model={"path": "mini:base"}))
    answers = [said("<think>well</think> 8"), said("8/10"), Completion("", (), "error", "gone")]
    grade = llm_scorer(judge, Scripted(answers))
    assert grade([row()] * 3, ["red"] * 3) == [0.8, None, None]
    assert fusion._mean([0.8, None]) == 0.4


def test_fuse_every_round_and_row_has_its_own_seed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = Scripted([said("red"), said("red")], [said("it")] * 2, [said("is")] * 2)
    run_fusion(tmp_path, generator, monkeypatch)
    seeds = [seed for each in generator.seeds for seed in each]
    assert len(seeds) == len(set(seeds)) == 6
