"""Each checker on answers written by hand."""

from __future__ import annotations

from typing import Any

import pytest

from raft_core.evaluation.instructions import CHECKS, check_instruction

REPEAT = {"prompt_to_repeat": "What is the color of Zek?"}
CASES: list[tuple[str, dict[str, Any], str, str]] = [
    # id, arguments, an answer that follows, one that does not
    ("change_case:english_capital", {}, "IT IS RED.", "It IS RED."),
    ("change_case:english_lowercase", {}, "it is red.", "it is Red."),
    ("combination:repeat_prompt", REPEAT, "What is the color of Zek? Red.", "Red. What is the"),
    ("detectable_content:postscript", {"postscript_marker": "P.S."}, "Red.\nP. S. Bye", "Red. PS"),
    ("detectable_content:postscript", {"postscript_marker": "P.P.S"}, "Red. P.P.S Bye", "P.S. R"),
    ("detectable_format:json_format", {}, '```json\n{"color": "red"}\n```', '{"color": red}'),
    ("detectable_format:number_bullet_lists", {"num_bullets": 2}, "* a\n- b", "* a\n* b\n* c"),
    ("keywords:existence", {"keywords": ["river", "sea"]}, "A River, a sea.", "A river."),
    ("mini:first_word", {"first_word": "Indeed"}, '"Indeed! Red."', "Red indeed."),
    ("mini:one_word", {}, " red ", "It is red"),
    ("punctuation:no_comma", {}, "Red; blue.", "Red, blue."),
    ("startend:end_checker", {"end_phrase": "that is all."}, '"THAT IS ALL."', "That is all. X"),
    ("startend:quotation", {}, ' "Red." ', '"Red.'),
]  # fmt: skip


@pytest.mark.parametrize(("instruction_id", "kwargs", "good", "bad"), CASES)
def test_checker_good_and_bad_answer_true_and_false(
    instruction_id: str, kwargs: dict[str, Any], good: str, bad: str
) -> None:
    assert check_instruction(instruction_id, good, **kwargs)
    assert not check_instruction(instruction_id, bad, **kwargs)


@pytest.mark.parametrize(("instruction_id", "kwargs", "good", "bad"), CASES)
def test_checker_empty_answer_false(
    instruction_id: str, kwargs: dict[str, Any], good: str, bad: str
) -> None:
    assert not check_instruction(instruction_id, " \n", **kwargs)


def test_checkers_every_one_has_a_case() -> None:
    assert {case[0] for case in CASES} == set(CHECKS)


def test_quotation_single_quote_mark_false() -> None:
    assert not check_instruction("startend:quotation", '"')


def test_check_instruction_none_arguments_are_absent() -> None:
    assert check_instruction("punctuation:no_comma", "Red.", num_bullets=None)


def test_check_instruction_unknown_id_names_it_and_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"'no:such'.*punctuation:no_comma"):
        check_instruction("no:such", "Red.")
