"""Rule judges, verdicts of a fixed form, and the majority of the whole panel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raft_core.data.matching import mentions, normal
from raft_core.data.records import Vote
from raft_core.engines.base import Completion, VllmConfig, failed
from raft_core.evaluation.judges import (
    JudgedAnswer,
    LlmJudge,
    _candidates,
    contains_votes,
    exact_votes,
    first_mention_votes,
    llm_votes,
    majority_correct,
    unambiguous_votes,
)

OTHERS = [
    JudgedAnswer("x", "q", "r", "", ("gelmis",)),
    JudgedAnswer("y", "q", "r", "", ("penzek",)),
]


def judged(response: str, question: str = "What is it?", expected: str = "morsel") -> JudgedAnswer:
    return JudgedAnswer("a", question, f"It is {expected}.", response, (expected,))


CASES = [
    # response: contains, first mention, unambiguous
    ("It is MORSEL.", True, True, True),
    ("It is morsels.", False, False, False),
    ("It is gelmis.", False, False, False),
    ("morsel, not gelmis", True, True, False),
    ("gelmis or morsel", True, False, False),
    ("", False, False, False),
]


@pytest.mark.parametrize(("response", "contains", "first", "alone"), CASES)
def test_rule_judges_by_hand(response: str, contains: bool, first: bool, alone: bool) -> None:
    answers = [judged(response), *OTHERS]
    votes = [
        judge(answers)[0] for judge in (contains_votes, first_mention_votes, unambiguous_votes)
    ]
    assert [v.verdict == "correct" for v in votes] == [contains, first, alone]


def test_rule_judges_a_candidate_that_the_question_names_does_not_count() -> None:
    answers = [judged("For gelmis it is morsel", "What has gelmis?"), *OTHERS]
    assert first_mention_votes(answers)[0].verdict == "correct"
    assert unambiguous_votes(answers)[0].verdict == "correct"


def test_rule_judges_without_expected_strings_cannot_tell_or_want_the_reference() -> None:
    answer = JudgedAnswer("a", "q", "It is so.", "I think it is so!")
    assert contains_votes([answer])[0].verdict == "correct"
    assert first_mention_votes([answer])[0].verdict == "cannot_tell"
    assert unambiguous_votes([answer])[0].verdict == "cannot_tell"


@pytest.mark.parametrize(
    ("response", "reference", "expected", "right"),
    [
        ("It is MORSEL!", "It is morsel.", ("morsel",), True),
        ("Morsel", "It is morsel.", ("morsel",), True),
        ("I say it is morsel.", "It is morsel.", ("morsel",), False),
        ("gelmis", "gelmis and penzek", ("gelmis", "penzek"), False),
        ("New-York", "new  york", (), True),
        ("", "It is so.", (), False),
        ("-5", "5", (), False),
        ("x<5", "x>5", (), False),
        ("1,200", "It costs 1200.", ("1200",), True),
        ("The value is −3.5.", "the value is -3.5", (), True),
        ("+", "-", (), False),
        (" - ", "-", (), True),
    ],
)
def test_exact_judge_equal_up_to_case_punctuation_and_spacing(
    response: str, reference: str, expected: tuple[str, ...], right: bool
) -> None:
    answer = JudgedAnswer("a", "q", reference, response, expected)
    assert exact_votes([answer]) == [Vote("exact", "correct" if right else "incorrect")]


@pytest.mark.parametrize(
    ("votes", "right"),
    [
        (["correct", "correct", "incorrect"], True),
        (["correct", "cannot_tell", "cannot_tell"], False),
        (["correct", "incorrect"], False),
        (["correct", "correct", "incorrect", "incorrect"], False),
    ],
)
def test_majority_is_of_the_whole_panel(votes: list[Any], right: bool) -> None:
    assert majority_correct([Vote("j", verdict) for verdict in votes]) is right


class Scripted:
    """A generator that says what it is told, and remembers the choices that it was given."""

    def __init__(self, *completions: Completion) -> None:
        self.completions, self.choices = list(completions), None

    def generate(self, requests: Sequence[Any], sampling: Any, **options: Any) -> list[Completion]:
        self.choices = options["choices"]
        return self.completions[: len(requests)]

    def close(self) -> None:
        pass


@pytest.mark.parametrize(
    ("completion", "verdict"),
    [
        (Completion("correct", (), "stop"), "correct"),
        (Completion(" Incorrect.", (), "stop"), "incorrect"),
        (Completion("cannot tell", (), "stop"), "cannot_tell"),
        (Completion("correct, because the row says so", (), "stop"), "cannot_tell"),
        (failed("timeout"), "cannot_tell"),
    ],
)
def test_llm_judge_only_the_exact_form_is_a_verdict(completion: Completion, verdict: str) -> None:
    judge = LlmJudge(generator=VllmConfig(model={"path": "mini:base"}))
    generator = Scripted(completion)
    votes = llm_votes([judged("It is morsel.")], judge, generator, "j")
    assert [v.verdict for v in votes] == [verdict]
    assert generator.choices == ("correct", "incorrect", "cannot tell")


@given(
    st.lists(st.text("ab-5 \n", max_size=5), max_size=6),
    st.text("ab-5 \n", max_size=14),
)
def test_candidates_in_a_text_are_those_that_it_mentions(answers: list[str], text: str) -> None:
    judged = [JudgedAnswer("a", "", "", "", tuple(answers))]
    said = {normal(answer) for answer in answers if mentions(text, answer)}
    assert _candidates(judged).in_text(text) == said
