"""The comparison of training steps: what is counted, and what the tables say of it."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from benchmarks.training_models import MINI, write_rows, write_tokenizer
from benchmarks.training_report import Comparison, markdown, ratios
from benchmarks.training_sides import Side
from benchmarks.training_spec import StepSpec
from benchmarks.training_step import FULL, trl_teacher_prompt
from benchmarks.training_turns import Phases, completion_tokens
from benchmarks.trl_environment import NotInstalled, bench_folder, trl_python
from raft_core.data.records import read_jsonl
from raft_core.distill.config import DistillConfig
from raft_core.engines.chat import encode_prompt

SPEC = StepSpec("kl", "model", "rows", 24, 1, 10, "folder", "prompt")


def side(name: str, seconds: list[float], peak: float) -> Side:
    return Side(
        name,
        "python",
        "module",
        SPEC,
        seconds=seconds,
        steps=5 * len(seconds),
        resident_mib=400,
        peak_mib=peak,
        completion_tokens=24.0,
    )


def comparison(*trl: Side) -> Comparison:
    kl, full = side("RAFT, KL alone", [4, 5], 500), side("RAFT, SFT + KL", [8, 10], 600)
    return Comparison("5M, 24 tokens, 1 thread", kl, full, list(trl))


def test_side_samples_per_second_are_those_of_its_turns() -> None:
    assert side("a", [4, 5], 500).samples_per_second() == [20, 16]


def test_ratios_are_to_the_fastest_way_of_trl_pair_by_pair() -> None:
    slow, fast = side("TRL", [30, 30], 900), side("TRL, torch.compile", [8, 20], 800)
    speed, memory, full_speed, _ = ratios([comparison(slow, fast)])
    assert (speed.spread.lowest, speed.spread.highest, speed.goal) == (2, 4, ">= 2")
    assert (full_speed.spread.lowest, full_speed.spread.highest, full_speed.goal) == (1, 2, ">= 1")
    assert memory.spread.median == (500 - 400) / (800 - 400)


def test_settings_with_rollouts_ahead_compare_sides_that_both_draw_them() -> None:
    (ahead,) = [setting for setting in FULL if setting.ahead]
    assert ahead.trl_ways == ("ahead",)
    assert ahead.steps % (ahead.ahead + 1) == ahead.warm_up % (ahead.ahead + 1) == 0


def test_markdown_without_trl_says_so_and_tells_rafts_own_figures() -> None:
    text = markdown([comparison()], "TRL could not be installed here.")
    assert text.startswith("TRL could not be installed here.")
    assert "| 5M, 24 tokens, 1 thread: RAFT, KL alone | 18.00 [16.00, 20.00] |  | 24.0 |" in text
    assert ratios([comparison()]) == ()


def test_phases_innermost_counts() -> None:
    phases = Phases()
    phases.taken()
    with phases.inside("loss"), phases.inside("teacher"):
        time.sleep(0.02)
    taken = phases.taken()
    assert taken["teacher"] > 10 * taken["loss"]


def test_phases_watch_none_belongs_to_what_is_around_it() -> None:
    class Model:
        def forward(self) -> str:
            return "logits"

    phases = Phases()
    phases.watch(Model, "forward", lambda: None if phases.is_inside("generation") else "teacher")
    with phases.inside("generation"):
        assert Model().forward() == "logits"
    assert "teacher" not in phases.taken()
    Model().forward()
    assert "teacher" in phases.taken()


@pytest.mark.parametrize("name", ["rollout_tokens", "completions/mean_length"])
def test_completion_tokens_either_trainers_log(name: str) -> None:
    assert completion_tokens([{name: 10.0}, {"loss": 1.0}, {name: 20.0}]) == 15


def test_write_tokenizer_larger_vocabulary_same_prompts(tmp_path: Path) -> None:
    write_tokenizer(3000, tmp_path)
    larger = AutoTokenizer.from_pretrained(tmp_path)
    mini = AutoTokenizer.from_pretrained(MINI)
    assert len(larger) == 3000
    question = "What is the court of Numsos?"
    assert encode_prompt(larger, question) == encode_prompt(mini, question)
    assert larger.decode([2999]) == "unused2999"


def test_write_rows_hold_so_many_answers(tmp_path: Path) -> None:
    write_rows(tmp_path / "rows.jsonl", 3, answers=2)
    rows = list(read_jsonl(tmp_path / "rows.jsonl"))
    assert [row["answer"].count(".") for row in rows] == [2, 2, 2]


def test_trl_teacher_prompt_is_rafts() -> None:
    said = trl_teacher_prompt().format(prompt="Q", privileged_context="A")
    assert said == DistillConfig().teacher_prompt.load().render(question="Q", reference="A")


def test_trl_python_that_cannot_be_made_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(NotInstalled, match="cannot be installed"):
        trl_python()
    assert not (bench_folder() / "trl-1.16" / "installed.txt").exists()
