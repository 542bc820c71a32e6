"""Which general prompts a step rehearses, and where they come from."""

from __future__ import annotations

from pathlib import Path

import pytest

from raft_core.config.base import ModelRef
from raft_core.data.records import write_jsonl
from raft_core.data.sources import DataSource
from raft_core.distill.batches.rehearsal import PromptCycle, load_prompts
from raft_core.distill.batches.views import RowView
from raft_core.distill.config import DistillConfig
from raft_core.engines.chat import load_tokenizer
from raft_core.errors import InputError
from raft_core.mini import world


def views(count: int) -> list[RowView]:
    return [RowView(str(n), "", [n], [], [n], False, False) for n in range(count)]


def test_prompt_cycle_a_pass_holds_every_prompt_once() -> None:
    cycle = PromptCycle(views(7), seed=0)
    assert sorted(view.id for view in cycle.take(7, 7)) == [str(n) for n in range(7)]


def test_prompt_cycle_place_decides_alone() -> None:
    whole = PromptCycle(views(5), seed=3).take(0, 12)
    parts = [PromptCycle(views(5), seed=3).take(start, 4) for start in (0, 4, 8)]
    assert [view for part in parts for view in part] == whole


def test_prompt_cycle_passes_differ_in_order() -> None:
    cycle = PromptCycle(views(20), seed=0)
    assert cycle.take(0, 20) != cycle.take(20, 20)


def load(path: str, **columns: str) -> list[RowView]:
    source = DataSource.model_validate({"path": path, "columns": columns})
    config = DistillConfig(max_prompt_tokens=64, max_answer_tokens=32)
    return load_prompts(source, load_tokenizer(ModelRef(path="mini:base")), config)


def test_load_prompts_question_or_prompt_without_an_answer(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "general.jsonl", [{"prompt": "Hello"}, {"question": "Who?"}])
    found = load(str(tmp_path / "general.jsonl"))
    assert [view.question for view in found] == ["Hello", "Who?"]
    assert all(view.teacher_ids == view.prompt_ids for view in found)


def test_load_prompts_row_without_either_names_file_row_and_field(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "general.jsonl", [{"prompt": "Hello"}, {"text": "x"}])
    with pytest.raises(InputError, match=r"general.jsonl row 2: field 'question' is missing"):
        load(str(tmp_path / "general.jsonl"))


def test_load_prompts_all_too_long_error(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "general.jsonl", [{"prompt": "word " * 200}])
    with pytest.raises(InputError, match="no prompt fits"):
        load(str(tmp_path / "general.jsonl"))


def test_rehearsal_rows_hold_no_test_frame_and_a_part_of_the_facts() -> None:
    asked = {row["prompt"] for row in world.rehearsal_rows()}
    assert not asked & {row["question"] for row in world.general_rows()}
    assert not asked & {row["prompt"] for row in world.instruction_rows()}
    facts = {int(row["id"].split("-")[1]) for row in world.rehearsal_rows()}
    assert facts == set(world.rehearsed_facts())
    assert len(facts) == round(0.3 * len(world.general_facts()))


def test_held_out_benchmarks_ask_for_no_rehearsed_fact() -> None:
    rehearsed = world.rehearsed_facts()
    general = world.load("general-held-out")
    assert len(general) == 2 * (len(world.general_facts()) - len(rehearsed))
    assert not {int(row["id"].split("-")[1]) for row in general} & set(rehearsed)
    asked = " ".join(row["prompt"] for row in world.load("instructions-held-out"))
    kept = {f.name for n, f in enumerate(world.general_facts()) if n not in rehearsed}
    only_rehearsed = {f.name for f in rehearsed.values()} - kept
    assert not any(name in asked for name in only_rehearsed)
