"""What answers take from a passage, whom questions name, and what leans on a passage."""

from __future__ import annotations

import pytest

from raft_core.documents.self_contained import leaning_phrase
from raft_core.documents.wording import (
    added_facts,
    content_words,
    lacking_names,
    names,
    overlap,
    taken_words,
)

PASSAGE = "Pursuant to section 413(c), the court of Penzek shall be gelmis."


@pytest.mark.parametrize(
    ("answer", "taken"),
    [
        ("Sure! The court of Penzek is gelmis.", ["gelmis"]),
        ("Penzek has GELMIS as court, by section 413.", ["gelmis", "section", "413"]),
        ("The court of Penzek is morsel.", []),
        ("", []),
    ],
)
def test_taken_words_by_hand(answer: str, taken: list[str]) -> None:
    assert taken_words(answer, PASSAGE, "Which court does Penzek have?") == taken


def test_content_words_leave_function_words_out_and_foreign_ones_in() -> None:
    assert content_words("It is the House of Özil, und 3 more") == ["house", "özil", "und", "3"]


@pytest.mark.parametrize(
    ("question", "named"),
    [
        ("What is the court of Penzek?", {"penzek"}),
        ("Which treaty did New York sign in 1998?", {"new", "york", "1998"}),
        ("what is it?", set()),
        ("WHO SIGNED IT?", set()),
        ("Who?", set()),
    ],
)
def test_names_by_hand(question: str, named: set[str]) -> None:
    assert names(question) == named


def test_lacking_names_whole_words_alone_count() -> None:
    assert lacking_names("What is the court of Penzek?", PASSAGE) == set()
    assert lacking_names("What is the court of Kolta?", PASSAGE) == {"kolta"}
    assert lacking_names("What is the court of Penz?", PASSAGE) == {"penz"}


def test_overlap_by_hand() -> None:
    assert overlap("ab", "bc") == pytest.approx(1 / 3)
    assert overlap("", "") == 0
    assert overlap("ab", "ba") == 1


@pytest.mark.parametrize(
    ("question", "phrase"),
    [
        ("According to the passage, who won?", "the passage"),
        ("Which year is Mentioned  above?", "mentioned above"),
        ("What does Article 5 of the Treaty of Rome say?", None),
        ("Who wrote the textbook?", None),
        ("Which passage leads from Calais to Dover?", None),
    ],
)
def test_leaning_phrase_by_hand(question: str, phrase: str | None) -> None:
    assert leaning_phrase([question, "An answer."]) == phrase


def test_leaning_phrase_in_the_answer_counts_too() -> None:
    assert leaning_phrase(["Who won?", "This passage does not say."]) == "this passage"


FINE = "The fine under the act is 1,500 euros, unless the minister waives it."


@pytest.mark.parametrize(
    ("answer", "added"),
    [
        ("The fine is 1500 euros.", []),
        ("Sure! Under the act, Penzek owes a fine of 1,500 euros.", []),
        ("No, the fine of Penzek is 1,500 euros.", []),
        ("The fine is 1,500 euros, raised in 2021.", ["2021"]),
        ("The fine is 1,500 euros, set by Minister Meyer.", ["Meyer"]),
        ("The fine is 1,500 euros, and it is not owed.", ["a denial"]),
        ("No, it isn't 1,500 euros.", ["a denial"]),
    ],
)
def test_added_facts_are_those_of_neither_passage_nor_question(
    answer: str, added: list[str]
) -> None:
    assert added_facts(answer, FINE, "Which fine does Penzek owe?") == added


def test_added_facts_a_denial_of_the_passage_is_found_beside_another() -> None:
    passage = "The fine of the act is owed. A child does not pay."
    assert added_facts("The fine of the act is not owed.", passage, "Is it?") == ["a denial"]
    assert added_facts("A child does not pay.", passage, "Does a child pay?") == []
