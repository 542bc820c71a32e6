"""What answers take from a passage, whom questions name, and what leans on a passage."""

from __future__ import annotations

import pytest

from raft_core.documents.self_contained import leaning_phrase
from raft_core.documents.wording import content_words, lacking_names, names, overlap, taken_words

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
