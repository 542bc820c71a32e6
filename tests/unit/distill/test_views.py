"""What student and teacher read, token by token, with the embedded base's tokenizer."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from raft_core.config.base import ModelRef
from raft_core.data.records import FusedAnswer
from raft_core.distill.batches.views import build_view, pad_rows, prompt_view, turn_end_id
from raft_core.distill.config import DistillConfig
from raft_core.engines.chat import encode_prompt, load_tokenizer

ROW = FusedAnswer("a", "What is the court of Penzek?", "Sure! It is gelmis.", "fused")


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return load_tokenizer(ModelRef(path="mini:base"))


def settings(**changes: Any) -> DistillConfig:
    return DistillConfig(max_prompt_tokens=192, max_answer_tokens=96, **changes)


def test_view_teacher_reads_the_papers_template_then_the_same_assistant_start(
    tokenizer: Any,
) -> None:
    view = build_view(ROW, tokenizer, settings(), tokenizer.eos_token_id)
    assert view is not None
    assert tokenizer.decode(view.teacher_ids) == (
        "<|user|>Background reference knowledge: Sure! It is gelmis.\n"
        "Answer the question based on the reference knowledge: What is the court of Penzek?\n"
        "Answer:<|assistant|>"
    )
    assert view.prompt_ids[-1] == view.teacher_ids[-1]


def test_view_answer_ends_with_the_turns_end(tokenizer: Any) -> None:
    view = build_view(ROW, tokenizer, settings(), tokenizer.eos_token_id)
    assert view is not None
    assert tokenizer.decode(view.answer_ids) == "Sure! It is gelmis.<|end|>"
    assert not view.answer_cut


def test_view_joined_ids_equal_the_rendered_conversation(tokenizer: Any) -> None:
    view = build_view(ROW, tokenizer, settings(), tokenizer.eos_token_id)
    turns = [
        {"role": "user", "content": ROW.question},
        {"role": "assistant", "content": ROW.answer},
    ]
    rendered = tokenizer.apply_chat_template(turns, return_dict=True)["input_ids"]
    assert view is not None
    assert view.prompt_ids + view.answer_ids == list(rendered)


def test_view_question_over_its_budget_none(tokenizer: Any) -> None:
    config = DistillConfig(max_prompt_tokens=4, max_answer_tokens=8)
    assert build_view(ROW, tokenizer, config, tokenizer.eos_token_id) is None


def test_view_long_answer_cut_on_the_right_without_end_token(tokenizer: Any) -> None:
    config = DistillConfig(max_prompt_tokens=192, max_answer_tokens=3)
    view = build_view(ROW, tokenizer, config, tokenizer.eos_token_id)
    assert view is not None
    assert view.answer_cut
    assert len(view.answer_ids) == 3
    assert tokenizer.eos_token_id not in view.answer_ids


@pytest.mark.parametrize("text", ["many words of it " * 200, "日本語の文章です" * 80, "é" * 900])
def test_view_long_reference_cut_and_question_whole(tokenizer: Any, text: str) -> None:
    row = FusedAnswer("a", ROW.question, text, "reference")
    view = build_view(row, tokenizer, settings(), tokenizer.eos_token_id)
    assert view is not None
    assert view.reference_cut
    assert len(view.teacher_ids) <= 192 + 96
    read = tokenizer.decode(view.teacher_ids)
    assert f"reference knowledge: {ROW.question}\nAnswer:" in read
    assert "\ufffd" not in read


class TwoEndings:
    """A template that closes every turn with 7 and the conversation with 9."""

    eos_token_id = 9

    def apply_chat_template(
        self, chats: list[list[dict[str, str]]], add_generation_prompt: bool = False, **_: Any
    ) -> dict[str, list[list[int]]]:
        turns = {"user": [1, 2, 7], "assistant": [3, 4, 7]}
        end = [3] if add_generation_prompt else [9]
        return {"input_ids": [[i for m in c for i in turns[m["role"]]] + end for c in chats]}


def test_turn_end_first_stop_token_after_the_assistants_start() -> None:
    assert turn_end_id(TwoEndings(), [7, 9]) == 7


def test_turn_end_no_stop_token_in_template_eos() -> None:
    assert turn_end_id(TwoEndings(), [11]) == 9


def test_pad_rows_completions_start_in_one_column() -> None:
    batch = pad_rows([[1, 2, 3], [4]], [[5], [6, 7]], 0, torch.device("cpu"))
    assert batch.ids_BT.tolist() == [[1, 2, 3, 5, 0], [0, 0, 4, 6, 7]]
    assert batch.attention_BT.tolist() == [[1, 1, 1, 1, 0], [0, 0, 1, 1, 1]]
    assert batch.labels_BC.tolist() == [[5, 0], [6, 7]]
    assert batch.mask_BC.tolist() == [[1, 0], [1, 1]]


def test_pad_rows_positions_count_from_the_first_real_token() -> None:
    batch = pad_rows([[1, 2, 3], [4]], [[5], [6, 7]], 0, torch.device("cpu"))
    assert batch.model_inputs["position_ids"].tolist() == [[0, 1, 2, 3, 3], [0, 0, 0, 1, 2]]


def test_pad_rows_skipped_tokens_are_read_but_bear_no_loss() -> None:
    batch = pad_rows([[1], [2]], [[5, 6, 7], [8]], 0, torch.device("cpu"), skip=[2, 2])
    assert batch.mask_BC.tolist() == [[0, 0, 1], [0, 0, 0]]
    assert batch.attention_BT.tolist() == [[1, 1, 1, 1], [1, 1, 0, 0]]


def test_prompt_view_teacher_reads_what_the_student_reads(tokenizer: Any) -> None:
    view = prompt_view("a", ROW.question, tokenizer, settings())
    assert view is not None
    assert view.teacher_ids == view.prompt_ids
    assert not view.answer_ids


def test_encode_prompt_ends_with_the_assistants_start(tokenizer: Any) -> None:
    ids = encode_prompt(tokenizer, "Hello")
    assert tokenizer.decode(ids) == "<|user|>Hello<|assistant|>"
