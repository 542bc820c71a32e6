"""What counts as the same words, numbers and signs."""

from __future__ import annotations

import pytest

from raft_core.data.matching import mentions, normal
from raft_core.facts.guard import Claim, GuardConfig
from raft_core.facts.rules import check_rules


@pytest.mark.parametrize(
    ("text", "phrase", "said"),
    [
        ("It is New-York!", "new york", True),
        ("It is a newt", "new", False),
        ("It is 12.5 m.", "12", False),
        ("It is 12.5 m.", "12.5", True),
        ("It is 12.", "12", True),
        ("It took 12, 13 or 14 days", "12", True),
        ("It has 5 degrees", "-5", False),
        ("It has −5 degrees", "-5", True),
        ("It has -5 degrees", "5", False),
        ("pages 3-5", "5", True),
        ("It has 50 euros", "50%", False),
        ("It is 50 % of all", "50%", True),
        ("It is 50 percent, or 3 per cent", "50%", True),
        ("It is 3 per cent", "3%", True),
        ("It is 50% of all", "50", True),
        ("Written in C", "C#", False),
        ("Written in C#.", "C", False),
        ("Written in C#.", "C#", True),
        ("1, 2 or 3", "1/2", False),
        ("1/2 of it", "1/2", True),
        ("12/30 patients", "12", True),
        ("1,200 euros", "1200", True),
        ("€1,200.00 in all", "1200 euros", True),
        ("1.200,50 Euro", "1200.50", True),
        ("12,34,567 rupees", "1234567", True),
        ("It is -$5 million", "-5 million dollars", True),
        ("rows 1,2,3", "2", True),
        ("a rate of .5", "0.5", True),
        ("wait...5 of them", "5", True),
        ("**12** of *30* in <b>7</b>", "12 of 30 in", True),
        ("version 3.10", "3.1", False),
        ("host 10.0.0.1", "10.0.0.2", False),
    ],
)
def test_mentions_whole_words_and_numbers(text: str, phrase: str, said: bool) -> None:
    assert mentions(text, phrase) is said


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("1.5", "1 5"), ("$5", "5"), ("50%", "50"), ("C++", "C"), ("x<5", "x>5"),
        ("a != b", "a == b"), ("-5", "5"), ("5 + 3", "5 3"), ("2^3", "2 3"), ("3.0.1", "3.01"),
    ],
)  # fmt: skip
def test_normal_signs_that_change_the_meaning_stay(one: str, other: str) -> None:
    assert normal(one) != normal(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("x<5", "x < 5"), ("$5", "5 dollars"), ("1,200", "1200.0"), ("5€", "€5"), ("5 %", "5%"),
        ("The value is −3.5.", "the value is -3.5"), ("(a) -> [b]", "A, b!"),
        ("> **quoted**", "quoted"), ("- 5 mg", "5 mg"),
    ],
)  # fmt: skip
def test_normal_spelling_and_markup_do_not_count(one: str, other: str) -> None:
    assert normal(one) == normal(other)


def test_guard_answer_in_another_spelling_is_kept_and_its_first_digits_are_not() -> None:
    claim = Claim("What is it?", "It costs 1200 euros.", "It costs 1,200 euros.", ("1200",))
    assert check_rules(claim, GuardConfig()) == {}
    cut = Claim("What is it?", "It is 12 percent.", "It is 12.5 percent.", ("12",))
    assert "answer_changed" in check_rules(cut, GuardConfig())


def test_normal_of_words_alone_is_their_words() -> None:
    text = "Sure! It's the well-known court's rule: and/or 'Özil' (see T4, Q2_a, user721)."
    words = "sure it s the well known court s rule and or özil see t4 q2_a user721"
    assert normal(text) == words


def test_normal_of_signs_alone_is_empty() -> None:
    assert [normal(text) for text in ("+", " - ", "%", "#", "->", "1"[:0])] == [""] * 6


def test_normal_reads_a_long_row_of_numbers_once() -> None:
    # Every start looking ahead to the end of the row would take minutes.
    assert normal("12,34," * 20_000 + "x").endswith(" x")
