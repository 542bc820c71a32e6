"""Each checker on answers written by hand, and IFEval's own on real responses."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from raft_core.app.settings import load_settings
from raft_core.config.base import fingerprint
from raft_core.errors import InputError
from raft_core.evaluation.benchmarks.base import Item, Response
from raft_core.evaluation.benchmarks.instructions import (
    InstructionsBenchmark,
    check_responses,
    instruction_levels,
    instruction_votes,
)
from raft_core.evaluation.instructions import (
    ARGUMENTS,
    MINI_CHECKS,
    argument_problem,
    check_instruction,
)

REAL = Path(__file__).parents[3].parent / "shared" / "data" / "ifeval"
REPEAT = {"prompt_to_repeat": "What is the color of Zek?"}
ENGLISH = "the answer to this question is that the house is red."
TWO = {"relation": "at least"}
CASES: list[tuple[str, dict[str, Any], str, str]] = [
    # id, arguments, an answer that follows, one that does not
    ("change_case:capital_word_frequency",
     {"capital_frequency": 2, "capital_relation": "less than"}, "ONE word", "TWO WORDS"),
    ("change_case:english_capital", {}, ENGLISH.upper(), ENGLISH),
    ("change_case:english_lowercase", {}, ENGLISH, ENGLISH.capitalize()),
    ("combination:repeat_prompt", REPEAT, "What is the color of Zek? Red.", "Red. What is the"),
    ("combination:two_responses", {}, "Red.\n******\nBlue.", "Red. Blue."),
    ("detectable_content:number_placeholders", {"num_placeholders": 2}, "[a] [b]", "[a]"),
    ("detectable_content:postscript", {"postscript_marker": "P.S."}, "Red.\nP. S. Bye", "Red. PS"),
    ("detectable_content:postscript", {"postscript_marker": "P.P.S"}, "Red. P.P.S Bye", "P.S. R"),
    ("detectable_format:constrained_response", {}, "My answer is yes.", "It is."),
    ("detectable_format:json_format", {}, '```json\n{"color": "red"}\n```', '{"color": red}'),
    ("detectable_format:multiple_sections", {"num_sections": 2, "section_spliter": "Part"},
     "Part 1\na\nPart 2\nb", "Part 1\na"),
    ("detectable_format:number_bullet_lists", {"num_bullets": 2}, "* a\n- b", "* a\n* b\n* c"),
    ("detectable_format:number_highlighted_sections", {"num_highlights": 2}, "*a* and *b*", "*a*"),
    ("detectable_format:title", {}, "<<Red>> it is", "Red it is"),
    ("keywords:existence", {"keywords": ["river", "sea"]}, "A River, a sea.", "A river."),
    ("keywords:forbidden_words", {"forbidden_words": ["sea"]}, "A river, a season.", "A Sea."),
    ("keywords:frequency", {"frequency": 2, "keyword": "sea", **TWO}, "Sea to sea.", "A sea."),
    ("keywords:letter_frequency", {"let_frequency": 3, "let_relation": "at least", "letter": "e"},
     "Eee", "ee"),
    ("language:response_language", {"language": "de"}, "Das Haus ist heute leider nicht rot.",
     ENGLISH),
    ("length_constraints:nth_paragraph_first_word",
     {"first_word": "then", "nth_paragraph": 2, "num_paragraphs": 2}, "Red.\n\nThen blue.",
     "Then red.\n\nBlue."),
    ("length_constraints:number_paragraphs", {"num_paragraphs": 2}, "Red.\n***\nBlue.", "Red."),
    ("length_constraints:number_sentences", {"num_sentences": 2, **TWO},
     "It is red. Dr. Zek says so.", "Dr. Zek says so, e.g. here."),
    ("length_constraints:number_words", {"num_words": 3, **TWO}, "It is red", "Quite red"),
    ("mini:first_word", {"first_word": "Indeed"}, '"Indeed! Red."', "Red indeed."),
    ("mini:lower_case", {}, "it is red.", "it is Red."),
    ("mini:one_word", {}, " red ", "It is red"),
    ("mini:upper_case", {}, "ZEK IS TAFO.", "Zek IS TAFO."),
    ("punctuation:no_comma", {}, "Red; blue.", "Red, blue."),
    ("startend:end_checker", {"end_phrase": "that is all."}, '"THAT IS ALL."', "That is all. X"),
    ("startend:quotation", {}, ' "Red." ', '"Red.'),
]  # fmt: skip


@pytest.mark.parametrize(("instruction_id", "kwargs", "good", "bad"), CASES)
def test_checker_good_bad_and_empty_answer_true_and_false(
    instruction_id: str, kwargs: dict[str, Any], good: str, bad: str
) -> None:
    assert not argument_problem(instruction_id, kwargs)
    assert check_instruction(instruction_id, good, kwargs)
    assert not check_instruction(instruction_id, bad, kwargs)
    assert not check_instruction(instruction_id, " \n", kwargs)


def test_checkers_every_one_has_a_case() -> None:
    assert {case[0] for case in CASES} == set(ARGUMENTS)


def test_arguments_are_those_of_the_library() -> None:
    from raft_core.evaluation.ifeval_library import INSTRUCTION_DICT

    assert set(ARGUMENTS) == set(INSTRUCTION_DICT) | set(MINI_CHECKS)
    for name, checker in INSTRUCTION_DICT.items():
        assert set(ARGUMENTS[name]) == set(checker(name).get_instruction_args_keys()), name


@pytest.mark.parametrize(
    ("instruction_id", "kwargs", "said"),
    [
        ("length_constraints:number_words", {"num_words": 3}, "takes num_words, relation"),
        ("length_constraints:number_words", {"num_words": 0, **TWO}, "whole number above 0"),
        ("keywords:existence", {"keywords": ["C("]}, "regular expressions"),
        ("keywords:existence", {"keywords": ["a{99999999999}"]}, "regular expressions"),
        ("keywords:existence", {"keywords": ["(" * 3_000 + ")" * 3_000]}, "regular expressions"),
        ("keywords:frequency", {"frequency": 1, "keyword": "a", "relation": "about"}, "less than"),
        ("punctuation:no_comma", {"num_words": 3}, "takes no arguments"),
    ],
)
def test_argument_problem_unusable_arguments_told(
    instruction_id: str, kwargs: dict[str, Any], said: str
) -> None:
    assert said in argument_problem(instruction_id, kwargs)


def test_quotation_single_quote_mark_false() -> None:
    assert not check_instruction("startend:quotation", '"', {})


def test_check_instruction_none_arguments_are_absent() -> None:
    assert check_instruction("punctuation:no_comma", "Red.", {"num_bullets": None})


def test_check_instruction_unknown_id_names_it_and_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"'no:such'.*punctuation:no_comma"):
        check_instruction("no:such", "Red.", {})


def test_check_instruction_preamble_is_forgiven_only_when_loose() -> None:
    answer, rule = 'Here it is:\n"Red."', "startend:quotation"
    assert not check_instruction(rule, answer, {})
    assert check_instruction(rule, answer, {}, loose=True)


def test_levels_two_prompts_hand_counted(tmp_path: Path) -> None:
    rows = [
        {"prompt": "p", "instruction_id_list": ["punctuation:no_comma", "startend:quotation"],
         "kwargs": [{}, None]},
        {"prompt": "q", "instruction_id_list": ["punctuation:no_comma"], "kwargs": [{"x": None}]},
    ]  # fmt: skip
    file = tmp_path / "rows.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)))
    items = InstructionsBenchmark(data=str(file)).items(tmp_path)
    said = ['<think>a, b</think>Well\n"Red."', "Red, blue."]
    responses = [
        Response("b", i.id, i.prompt, s, "stop", 1) for i, s in zip(items, said, strict=True)
    ]
    checked = check_responses(items, responses)
    levels = instruction_levels(checked)
    # first: no comma yes/yes, quotation no/yes; second: no comma no/no
    assert levels["prompt_strict"]["value"] == 0
    assert levels["prompt_loose"]["value"] == 0.5
    assert levels["instruction_strict"] == {"value": 1 / 3, "n": 3}
    assert levels["instruction_loose"] == {"value": 2 / 3, "n": 3}
    assert levels["sentence_splitter"]
    votes = instruction_votes(checked)
    assert [vote.detail for (vote,) in votes] == ["startend:quotation", "punctuation:no_comma"]


def test_sentence_model_that_is_not_installed_is_one_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import nltk

    monkeypatch.setattr(nltk.data, "path", [])
    with pytest.raises(InputError, match=r"punkt_tab.*nltk\.downloader"):
        check_responses([], [], "punkt_tab")


def test_identity_scoring_is_the_evaluations_and_asking_the_responses() -> None:
    settings = load_settings("mini", "law")
    by_model = load_settings(
        "mini", "law", ["evaluate.benchmarks.instructions.sentences=punkt_tab"]
    )
    asked, scored = (
        [fingerprint(stage(each)) for each in (settings, by_model)]
        for stage in (
            lambda each: each.respond_stage(trained=True),
            lambda each: each.evaluate_stage(trained=True),
        )
    )
    assert asked[0] == asked[1]
    assert scored[0] != scored[1]
    assert "lm_eval" in scored[0]["benchmarks"]["instructions"]["checkers"]


@pytest.mark.skipif(not REAL.is_dir(), reason="the IFEval responses are not part of the project")
def test_ifeval_real_responses_verdicts_equal_a_third_partys() -> None:
    """540 responses of Qwen2.5-0.5B-Instruct, judged by another run of the official checkers."""
    given = (REAL / "responses_qwen2.5-0.5b-instruct.jsonl").read_text().splitlines()
    rows = {row["key"]: row for row in map(json.loads, given)}
    benchmark = InstructionsBenchmark(data=str(REAL / "input_data.jsonl"))
    items = [item for item in benchmark.items(REAL) if int(item.id) in rows]
    answered = [rows[int(item.id)] for item in items]
    checked = check_responses(
        items,
        [
            Response("ifeval", i.id, i.prompt, r["response"], "stop", 1)
            for i, r in zip(items, answered, strict=True)
        ],
    )
    assert len(items) == 540
    for level in ("strict", "loose"):
        pairs = [
            (getattr(f, level), theirs)
            for followed, row in zip(checked, answered, strict=True)
            for f, theirs in zip(followed, row[level], strict=True)
        ]
        assert sum(ours == theirs for ours, theirs in pairs) / len(pairs) >= 0.99
    assert instruction_levels(checked)["prompt_strict"]["value"] == pytest.approx(0.239, abs=0.005)


def followed(kwargs: dict[str, Any], name: str, said: str) -> Any:
    item = Item("1", "p", "p", checks=({"instruction_id": name, "kwargs": kwargs},))
    return check_responses([item], [Response("ifeval", "1", "p", said, "stop", 1)])[0]


def test_answer_nested_beyond_reading_costs_itself_with_a_reason() -> None:
    checked = followed({}, "detectable_format:json_format", "[" * 100_000)
    assert not checked[0].strict
    assert "RecursionError" in checked[0].problem
    ((vote,),) = instruction_votes([checked])
    assert vote.verdict == "cannot_tell"
    assert "RecursionError" in vote.detail


def test_pattern_of_a_row_that_searches_for_ever_costs_its_row(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("raft_core.evaluation.benchmarks.instructions.CHECK_SECONDS", 0.5)
    started = time.monotonic()
    checked = followed({"keywords": ["(a|aa)+$"]}, "keywords:existence", "a" * 70 + "b")
    assert time.monotonic() - started < 10
    assert "OverdueError: it took longer than 0.5 s" in checked[0].problem
    assert followed({"keywords": ["a+"]}, "keywords:existence", "a" * 70)[0].strict
